//! Embeddings in batches: the texts that no tier has go to the model in one grouped load, 64 at a time, and
//! memory is bounded in bytes.
//!
//! ```sh
//! cargo run --release -p terrace-cookbook --bin embeddings
//! ```

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
    time::Duration,
};

use terrace::{Cache, Digest, Forever, Memory, Result, Sqlite, TierSettings};

/// The most texts that the model takes in one call.
const BATCH: usize = 64;
const DIMENSIONS: usize = 384;

type Vector = Vec<f32>;

/// The model's API.
#[derive(Default)]
struct Model {
    calls: AtomicU32,
}

impl Model {
    async fn embed(&self, texts: &[String]) -> std::result::Result<Vec<Vector>, Infallible> {
        self.calls.fetch_add(1, Relaxed);
        let embed = |text: &String| {
            let seed = text.bytes().map(f32::from).sum::<f32>();
            (0..DIMENSIONS).map(|dimension| (seed + dimension as f32).sin()).collect()
        };
        Ok(texts.iter().map(embed).collect())
    }
}

struct Embeddings {
    vectors: Cache<Digest, Vector>,
    model: Arc<Model>,
}

impl Embeddings {
    /// The vectors of the texts, in order. The key of a text is the digest of the model's name and the text.
    async fn of(&self, texts: &[String]) -> Result<Vec<Vector>> {
        let keys: Vec<Digest> =
            texts.iter().map(|text| Digest::of(&("tiny-3", text))).collect::<Result<_>>()?;
        let (model, texts) = (Arc::clone(&self.model), texts.to_vec());
        let load = |missing: terrace::MissingKeys<Digest>| async move {
            let mut pairs = Vec::with_capacity(missing.keys().len());
            for (keys, indices) in missing.keys().chunks(BATCH).zip(missing.indices().chunks(BATCH)) {
                let batch: Vec<String> = indices.iter().map(|index| texts[*index].clone()).collect();
                pairs.extend(keys.iter().copied().zip(model.embed(&batch).await?));
            }
            Ok::<_, Infallible>(pairs)
        };
        let vectors = self.vectors.get_or_load_many(&keys, load).await.into_values()?;
        Ok(vectors.into_iter().flatten().map(|vector| vector.to_vec()).collect())
    }
}

#[tokio::main]
async fn main() -> Result<()> {
    let file = std::env::temp_dir().join(format!("terrace-embeddings-{}.db", std::process::id()));
    let vectors = Cache::builder("embeddings")
        .near(Memory::bytes(64 << 20, |_, vector: &Vector| vector.len() * size_of::<f32>()))
        .tier(Sqlite::file(&file)?.budget(Duration::from_secs(10)))
        // A vector never changes: a new model has other keys.
        .expire(Forever)
        .build()?;
    vectors.ready().await?;
    let embeddings = Embeddings { vectors, model: Arc::default() };
    let texts: Vec<String> = (0..200).map(|number| format!("sentence {number}")).collect();

    for (what, texts) in
        [("the first 150 texts", &texts[..150]), ("all 200 texts", &texts), ("again", &texts)]
    {
        let before = embeddings.model.calls.load(Relaxed);
        let vectors = embeddings.of(texts).await?;
        let calls = embeddings.model.calls.load(Relaxed) - before;
        println!("{what}: {} vectors, {calls} calls of the model", vectors.len());
    }
    embeddings.vectors.close().await;
    let _absent = std::fs::remove_file(file);
    Ok(())
}
