//! Answers of a language model: a prompt of any length is a key, a prompt is answered once for all processes,
//! and an old answer is better than none while the model is away.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin llm_answers
//! ```
//!
//! With `REDIS_URL` and `DATABASE_URL` the answers are shared by all processes; without them they are in an
//! SQLite file.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use serde::{Deserialize, Serialize};
use terrace::{
    Cache, Digest, Lease, Result, Ttl,
    config::{Config, Stack},
};

/// How long an answer is fresh. Real answers are fresh for a day or a month.
const LIFE: Duration = Duration::from_secs(4);

/// All that changes the answer is part of the key. A new version of the model has other keys.
#[derive(Serialize)]
struct Question<'a> {
    model: &'a str,
    temperature_percent: u8,
    prompt: &'a str,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    text: String,
    tokens: u32,
}

/// The model's API.
#[derive(Default)]
struct Model {
    calls: AtomicU32,
    is_away: AtomicBool,
}

impl Model {
    async fn ask(&self, prompt: String) -> std::result::Result<Answer, std::io::Error> {
        tokio::time::sleep(Duration::from_millis(50)).await;
        if self.is_away.load(Relaxed) {
            return Err(std::io::ErrorKind::ConnectionRefused.into());
        }
        self.calls.fetch_add(1, Relaxed);
        Ok(Answer {
            text: "Because blue light is scattered most.".to_owned(),
            tokens: prompt.len() as u32 / 4,
        })
    }
}

/// The application: it keeps what its loads use in an `Arc`, since a load may outlive the call.
struct Assistant {
    answers: Cache<Digest, Answer>,
    model: Arc<Model>,
}

impl Assistant {
    async fn answer(&self, prompt: &str) -> Result<String> {
        let key = Digest::of(&Question { model: "sky-2", temperature_percent: 0, prompt })?;
        let (model, prompt) = (Arc::clone(&self.model), prompt.to_owned());
        let answer = self.answers.get_or_load(&key, || async move { model.ask(prompt).await }).await?;
        let served = answer.served();
        let stale = if served.stale { ", stale" } else { "" };
        println!("  {} tokens from {:?}{stale}", answer.tokens, served.from);
        Ok(answer.text.clone())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let file = std::env::temp_dir().join(format!("terrace-answers-{}.db", std::process::id()));
    let mut config = Config::embedded(&file).with_env()?;
    if let Some(sqlite) = &mut config.sqlite {
        // A disk may take longer than the 50 milliseconds of a tier, and a model takes longer still.
        sqlite.budget_ms = Some(10_000);
    }
    let stack = Stack::new(&config)?;
    let answers =
        stack.builder("answers").expire(Ttl::of(LIFE).stale_if_error(7 * LIFE)).stampede(Lease).build()?;
    // Opens the file and connects before the first users come.
    answers.ready().await?;
    let assistant = Arc::new(Assistant { answers, model: Arc::default() });
    let prompt = "Why is the sky blue? Answer in one sentence. ".repeat(1_000);

    println!("a prompt of {} bytes, from a hundred users at once:", prompt.len());
    let mut asked = Vec::new();
    for _ in 0..100 {
        let (assistant, prompt) = (Arc::clone(&assistant), prompt.clone());
        asked.push(tokio::spawn(async move { assistant.answer(&prompt).await }));
    }
    for answer in asked {
        answer.await.map_err(terrace::Error::load)??;
    }
    println!("the model was called {} time", assistant.model.calls.load(Relaxed));

    println!("a life later, and the model is away:");
    tokio::time::sleep(LIFE + Duration::from_millis(100)).await;
    assistant.model.is_away.store(true, Relaxed);
    println!("  {}", assistant.answer(&prompt).await?);

    assistant.answers.close().await;
    let _absent = std::fs::remove_file(file);
    Ok(())
}
