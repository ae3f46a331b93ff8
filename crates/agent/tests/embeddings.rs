//! The cache of embeddings, on real texts and vectors.
#![cfg(feature = "embed")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use serde_json::Value;
use support::{data, memory};
use terrace::ErrorKind;
use terrace_agent::{EmbeddingSettings, Embeddings, Precision};

const DIMENSIONS: usize = 1024;

/// The texts of real sentences with their vectors.
fn pairs() -> Option<Vec<(String, Vec<f32>)>> {
    let (index, vectors) = (data("sentence_text_vector_pairs.index.jsonl")?, data("queries_sentence.vec")?);
    let vectors: Vec<f32> = vectors.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let lines = std::str::from_utf8(&index).unwrap().lines();
    let texts = lines.map(|line| serde_json::from_str::<Value>(line).unwrap());
    let pairs = texts.enumerate().map(|(row, line)| {
        let row = line["row"].as_u64().map_or(row, |row| usize::try_from(row).unwrap());
        let text = line["text"].as_str().unwrap().to_owned();
        (text, vectors[row * DIMENSIONS..][..DIMENSIONS].to_vec())
    });
    Some(pairs.collect())
}

#[tokio::test]
async fn five_hundred_texts_make_491_loads_and_are_bit_exact() {
    let Some(pairs) = pairs() else { return };
    let embeddings = Embeddings::new(&memory(), EmbeddingSettings::new("bge-m3", DIMENSIONS)).unwrap();
    let by_text: Arc<std::collections::HashMap<String, Vec<f32>>> =
        Arc::new(pairs.iter().rev().cloned().collect());
    let loads = Arc::new(AtomicUsize::new(0));
    for _ in 0..2 {
        for batch in pairs.chunks(100) {
            let texts: Vec<&str> = batch.iter().map(|(text, _)| text.as_str()).collect();
            let (by_text, loads) = (Arc::clone(&by_text), Arc::clone(&loads));
            let embed = |texts: Vec<String>| async move {
                loads.fetch_add(texts.len(), Ordering::SeqCst);
                Ok::<_, std::io::Error>(texts.iter().map(|text| by_text[text].clone()).collect())
            };
            let made = embeddings.embed_many("ann", &texts, embed).await.unwrap();
            for (vector, (text, _)) in made.iter().zip(batch) {
                let bits =
                    |numbers: &[f32]| numbers.iter().map(|number| number.to_bits()).collect::<Vec<_>>();
                // Two rows have one text and vectors that differ: the first of them is the text's.
                let first = pairs.iter().find(|(other, _)| other == text).unwrap();
                assert_eq!(bits(&vector.to_vec()), bits(&first.1));
            }
        }
    }
    println!("{} texts, {} loads", pairs.len(), loads.load(Ordering::SeqCst));
    assert_eq!((pairs.len(), loads.load(Ordering::SeqCst)), (500, 491));
}

#[tokio::test]
async fn half_precision_takes_half_the_bytes_and_keeps_the_direction() {
    let Some(pairs) = pairs() else { return };
    let settings =
        EmbeddingSettings { precision: Precision::F16, ..EmbeddingSettings::new("bge-m3", DIMENSIONS) };
    let embeddings = Embeddings::new(&memory(), settings).unwrap();
    let mut worst = 0.0_f64;
    for (text, original) in &pairs {
        let given = original.clone();
        // A tenant for each vector, since two rows of one text differ.
        let tenant = original[0].to_string();
        let give = |_| async { Ok::<_, std::io::Error>(given) };
        let made = embeddings.embed(&tenant, text, give).await.unwrap();
        assert_eq!(made.dimensions(), DIMENSIONS);
        let dot = |a: &[f32], b: &[f32]| -> f64 {
            a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum()
        };
        let half = made.to_vec();
        let cosine = dot(&half, original) / (dot(&half, &half) * dot(original, original)).sqrt();
        worst = worst.max(1.0 - cosine);
    }
    println!("1 - cos is at most {worst:e}");
    assert!(worst < 1e-6, "{worst:e}");
}

#[tokio::test]
async fn vectors_of_the_wrong_number_or_dimension_are_errors_and_are_not_kept() {
    let embeddings = Embeddings::new(&memory(), EmbeddingSettings::new("m", 2)).unwrap();
    for (wrong, expected) in [
        (vec![vec![1.0, 2.0]], "1 vectors for 2 texts"),
        (vec![vec![1.0, 2.0], vec![1.0]], "of 1 dimensions, not of 2"),
    ] {
        let give = |_| async move { Ok::<_, std::io::Error>(wrong) };
        let error = embeddings.embed_many("t", &["a", "b"], give).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Load);
        assert!(error.to_string().contains(expected) && error.to_string().contains("embeddings"), "{error}");
    }
    let right =
        |texts: Vec<String>| async move { Ok::<_, std::io::Error>(vec![vec![0.5, 0.25]; texts.len()]) };
    assert_eq!(embeddings.embed_many("t", &["a", "b"], right).await.unwrap().len(), 2);
}

#[tokio::test]
async fn models_dimensions_tasks_precisions_and_tenants_are_apart() {
    let stack = memory();
    let base = EmbeddingSettings::new("m", 1);
    let others = [
        EmbeddingSettings { model: "n".into(), namespace: "n".into(), ..base.clone() },
        EmbeddingSettings { task: "query".into(), namespace: "q".into(), ..base.clone() },
        EmbeddingSettings { precision: Precision::F16, namespace: "h".into(), ..base.clone() },
    ];
    let loads = Arc::new(AtomicUsize::new(0));
    let embed = async |cache: &Embeddings, tenant: &str| {
        let loads = Arc::clone(&loads);
        let one =
            |_| async move { Ok::<_, std::io::Error>(vec![loads.fetch_add(1, Ordering::SeqCst) as f32]) };
        cache.embed(tenant, "text", one).await.unwrap().to_vec()[0]
    };
    let cache = Embeddings::new(&stack, base).unwrap();
    assert_eq!(embed(&cache, "a").await, 0.0);
    assert_eq!(embed(&cache, "b").await, 1.0);
    assert_eq!(embed(&cache, "a").await, 0.0);
    cache.clear_tenant("a").await.unwrap();
    assert_eq!((embed(&cache, "a").await, embed(&cache, "b").await), (2.0, 1.0));
    for (at, settings) in others.into_iter().enumerate() {
        let cache = Embeddings::new(&stack, settings).unwrap();
        assert_eq!(embed(&cache, "a").await, 3.0 + at as f32);
    }
}

#[tokio::test]
async fn a_number_that_half_precision_cannot_hold_is_an_error() {
    let settings = EmbeddingSettings { precision: Precision::F16, ..EmbeddingSettings::new("m", 1) };
    let embeddings = Embeddings::new(&memory(), settings).unwrap();
    let error =
        embeddings.embed("t", "a", |_| async { Ok::<_, std::io::Error>(vec![1e6]) }).await.unwrap_err();
    assert!(error.to_string().contains("use 32"), "{error}");
}
