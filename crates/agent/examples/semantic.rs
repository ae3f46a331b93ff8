//! A semantic cache as an example: an exact scan over kept vectors, with guards. It is no part of the library, because
//! two prompts that differ by 'not' or by a number are similar and their answers are not.
//!
//! The embedding is a toy here: it counts words. Take a model's, and look at `calibrate` with pairs of your own before
//! you trust a threshold.

use std::collections::HashMap;

use terrace::{
    BoxError,
    config::{Config, Stack},
};
use terrace_agent::{EmbeddingSettings, Embeddings};

const DIMENSIONS: usize = 64;
/// The most prompts that a scan compares.
const MAX_PROMPTS: usize = 20_000;

/// Prompts with their vectors and answers. Everything but the last text of the user must be equal: `context` is that.
struct Semantic {
    embeddings: Embeddings,
    threshold: f32,
    prompts: Vec<(String, String, Vec<f32>, String)>,
}

impl Semantic {
    async fn vector(&self, text: &str) -> terrace::Result<Vec<f32>> {
        let embed = |text: String| async move { Ok::<_, std::io::Error>(toy_embedding(&text)) };
        Ok(self.embeddings.embed("example", text, embed).await?.to_vec())
    }

    /// The answer to the most similar prompt above the threshold, if the guards let it pass.
    async fn find(&self, context: &str, prompt: &str) -> terrace::Result<Option<&str>> {
        let vector = self.vector(prompt).await?;
        let same_context = self.prompts.iter().filter(|(of, ..)| of == context);
        let guarded = same_context.filter(|(_, other, ..)| guards(other) == guards(prompt));
        let scored = guarded.map(|(_, _, other, answer)| (cosine(&vector, other), answer));
        let best = scored.max_by(|(one, _), (other, _)| one.total_cmp(other));
        Ok(best.filter(|(score, _)| *score >= self.threshold).map(|(_, answer)| answer.as_str()))
    }

    async fn keep(&mut self, context: &str, prompt: &str, answer: &str) -> terrace::Result<()> {
        let vector = self.vector(prompt).await?;
        if self.prompts.len() == MAX_PROMPTS {
            self.prompts.remove(0);
        }
        self.prompts.push((context.to_owned(), prompt.to_owned(), vector, answer.to_owned()));
        Ok(())
    }
}

/// What two prompts must have in common: their numbers and their negations.
fn guards(text: &str) -> (Vec<String>, usize) {
    let words = words(text);
    let numbers = words.iter().filter(|word| word.contains(|c: char| c.is_ascii_digit())).cloned().collect();
    let is_negation =
        |word: &&String| matches!(word.as_str(), "not" | "no" | "never" | "without") || word.ends_with("n't");
    (numbers, words.iter().filter(is_negation).count())
}

fn words(text: &str) -> Vec<String> {
    let is_end = |c: char| !c.is_alphanumeric() && c != '\'';
    text.to_lowercase().split(is_end).filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

fn toy_embedding(text: &str) -> Vec<f32> {
    let mut vector = vec![0.0; DIMENSIONS];
    for word in words(text) {
        let hash = word.bytes().fold(7_usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(byte.into()));
        vector[hash % DIMENSIONS] += 1.0;
    }
    vector
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f32>();
    dot(one, other) / (dot(one, one) * dot(other, other)).sqrt().max(f32::MIN_POSITIVE)
}

/// For each threshold: the part of the pairs above it that are labelled as equal.
fn calibrate(pairs: &[(&str, &str, bool)]) {
    for threshold in [0.7, 0.8, 0.9, 0.95] {
        let above = pairs.iter().filter(|(one, other, _)| {
            cosine(&toy_embedding(one), &toy_embedding(other)) >= threshold && guards(one) == guards(other)
        });
        let labels: HashMap<bool, usize> = above.fold(HashMap::new(), |mut labels, (.., equal)| {
            *labels.entry(*equal).or_default() += 1;
            labels
        });
        let (right, wrong) = (labels.get(&true).unwrap_or(&0), labels.get(&false).unwrap_or(&0));
        println!("at {threshold}: {right} right, {wrong} wrong");
    }
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let stack = Stack::new(&Config::in_memory())?;
    let embeddings = Embeddings::new(&stack, EmbeddingSettings::new("words", DIMENSIONS))?;
    let mut semantic = Semantic { embeddings, threshold: 0.85, prompts: Vec::new() };
    semantic.keep("chat", "Is the sky blue at noon?", "Yes.").await?;
    for (context, prompt) in [
        ("chat", "At noon, is the sky blue?"),
        ("chat", "Is the sky not blue at noon?"),
        ("chat", "Is the sky blue at 12?"),
        ("another system prompt", "At noon, is the sky blue?"),
    ] {
        println!("{context}, {prompt}: {:?}", semantic.find(context, prompt).await?);
    }
    calibrate(&[
        ("Is the sky blue at noon?", "At noon, is the sky blue?", true),
        ("Is the sky blue at noon?", "Is the sky not blue at noon?", false),
        ("Book 2 seats", "Book 3 seats", false),
        ("What is the tallest mountain?", "The tallest mountain is what?", true),
    ]);
    Ok(())
}
