//! The cache of embeddings.

use std::{fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use half::f16;
use serde::{Deserialize, Serialize};
use terrace::{
    BoxError, Digest, Error, ErrorKind, Lease, Level, Memory, MissingKeys, Result, Tenants, Ttl,
    config::Stack,
};

use crate::hash::PartHasher;

/// How the numbers of a vector are kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Precision {
    /// 32 bits each, bit for bit as they came.
    #[default]
    F32,
    /// 16 bits each: half the bytes. Of vectors of length 1, the cosine with the original is above 1 - 1e-6.
    F16,
}

/// A vector as it is kept: its numbers in little-endian order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Vector {
    precision: Precision,
    bytes: Bytes,
}

impl Vector {
    /// # Errors
    /// [`ErrorKind::Unencodable`] for a finite number that is too large for 16 bits.
    fn new(numbers: &[f32], precision: Precision) -> Result<Self> {
        let bytes: Vec<u8> = match precision {
            Precision::F32 => numbers.iter().flat_map(|number| number.to_le_bytes()).collect(),
            Precision::F16 => {
                let halves = numbers.iter().map(|number| (number, f16::from_f32(*number)));
                let too_large = |(number, half): (&f32, f16)| number.is_finite() && !half.is_finite();
                if halves.clone().any(too_large) {
                    let message =
                        "a number of the vector is beyond 65,504, which 16 bits cannot hold: use 32";
                    return Err(Error::new(ErrorKind::Unencodable, message));
                }
                halves.flat_map(|(_, half)| half.to_le_bytes()).collect()
            }
        };
        Ok(Self { precision, bytes: bytes.into() })
    }

    /// The number of its dimensions.
    pub fn dimensions(&self) -> usize {
        match self.precision {
            Precision::F32 => self.bytes.len() / 4,
            Precision::F16 => self.bytes.len() / 2,
        }
    }

    /// The numbers.
    ///
    /// # Cost
    /// One allocation.
    pub fn to_vec(&self) -> Vec<f32> {
        match self.precision {
            Precision::F32 => {
                self.bytes.as_chunks().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
            }
            Precision::F16 => {
                self.bytes.as_chunks().0.iter().map(|bytes| f16::from_le_bytes(*bytes).to_f32()).collect()
            }
        }
    }
}

/// The settings of [`Embeddings`]. Model, dimensions and task are parts of every key: another model has other vectors.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingSettings {
    /// The name of the model.
    pub model: String,
    /// The number of dimensions of each vector.
    pub dimensions: usize,
    /// What the vectors are for, where the model distinguishes it, such as `query` and `document`; empty.
    pub task: String,
    /// How the numbers are kept; as f32.
    pub precision: Precision,
    /// How long a vector is kept; 30 days.
    pub life: Duration,
    /// The namespace of the cache; `embeddings`.
    pub namespace: String,
}

impl EmbeddingSettings {
    /// The settings for the vectors of a model.
    pub fn new(model: impl Into<String>, dimensions: usize) -> Self {
        Self {
            model: model.into(),
            dimensions,
            task: String::new(),
            precision: Precision::default(),
            life: Duration::from_secs(30 * 24 * 3600),
            namespace: "embeddings".to_owned(),
        }
    }
}

/// A cache of embeddings by their texts.
///
/// # Cost
/// A call makes one trip to each tier for all texts that near does not have, one more to Redis for the leases, and at
/// most one call of the model.
///
/// ```
/// use terrace::config::{Config, Stack};
/// use terrace_agent::{EmbeddingSettings, Embeddings};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> terrace::Result<()> {
/// let stack = Stack::new(&Config::in_memory())?;
/// let embeddings = Embeddings::new(&stack, EmbeddingSettings::new("letters", 1))?;
/// let embed = |texts: Vec<String>| async move {
///     Ok::<_, std::io::Error>(texts.iter().map(|text| vec![text.len() as f32]).collect())
/// };
/// let vectors = embeddings.embed_many("ann", &["one", "three", "one"], embed).await?;
/// assert_eq!(vectors[1].to_vec(), [5.0]);
/// assert_eq!(vectors[0], vectors[2]);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Embeddings {
    vectors: Tenants<Digest, Vector, Memory<Digest, Vector>>,
    settings: Arc<EmbeddingSettings>,
}

impl Embeddings {
    /// A cache over the tiers of `stack`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`] for vectors without a dimension and a life of zero.
    pub fn new(stack: &Stack, settings: EmbeddingSettings) -> Result<Self> {
        if settings.dimensions == 0 || settings.life.is_zero() {
            let message = "a vector has at least one dimension, and a life longer than zero";
            return Err(Error::config(message).in_cache(settings.namespace));
        }
        let builder = stack.builder(&settings.namespace).level(Level::Fenced).stampede(Lease);
        let vectors = builder.expire(Ttl::of(settings.life)).build_per_tenant()?;
        Ok(Self { vectors, settings: Arc::new(settings) })
    }

    /// The vectors of `texts`, in order. `with` gets the texts that no tier has, each once, and gives their vectors in
    /// the same order.
    ///
    /// # Errors
    /// [`ErrorKind::Load`] with the error of `with`, and if it gives another number of vectors, or a vector of other
    /// dimensions: nothing is kept then.
    pub async fn embed_many<F, Fut, E>(&self, tenant: &str, texts: &[&str], with: F) -> Result<Vec<Vector>>
    where
        F: FnOnce(Vec<String>) -> Fut + Send,
        Fut: Future<Output = Result<Vec<Vec<f32>>, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let keys: Vec<Digest> = texts.iter().map(|text| self.key(text)).collect();
        let settings = Arc::clone(&self.settings);
        let load = |missing: MissingKeys<Digest>| {
            let made = with(missing.indices().iter().map(|at| texts[*at].to_owned()).collect());
            async move {
                let made = made.await.map_err(Into::into)?;
                let vectors = settings.checked(&made, missing.keys().len())?;
                Ok::<_, BoxError>(missing.zip(vectors))
            }
        };
        let vectors = self.vectors.tenant(tenant)?.get_or_load_many(&keys, load).await.into_values();
        let absent = || Error::new(ErrorKind::Load, "the model gave no vector for a text");
        let vectors = vectors.and_then(|vectors| {
            vectors.into_iter().map(|vector| Ok(Vector::clone(&*vector.ok_or_else(absent)?))).collect()
        });
        vectors.map_err(|error| error.in_cache(&*self.settings.namespace).during("embed_many"))
    }

    /// The vector of one text.
    ///
    /// # Errors
    /// As [`embed_many`](Self::embed_many).
    pub async fn embed<F, Fut, E>(&self, tenant: &str, text: &str, with: F) -> Result<Vector>
    where
        F: FnOnce(String) -> Fut + Send,
        Fut: Future<Output = Result<Vec<f32>, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let one = |texts: Vec<String>| {
            let made = with(texts.into_iter().next().unwrap_or_default());
            async move { made.await.map(|vector| vec![vector]) }
        };
        let absent = || Error::new(ErrorKind::Load, "the model gave no vector");
        self.embed_many(tenant, &[text], one).await?.pop().ok_or_else(absent)
    }

    /// Drops all vectors of a tenant.
    ///
    /// # Errors
    /// [`ErrorKind::Partial`] if a tier did not confirm it.
    pub async fn clear_tenant(&self, tenant: &str) -> Result<()> {
        self.vectors.tenant(tenant)?.clear().await
    }

    fn key(&self, text: &str) -> Digest {
        let mut hasher = PartHasher::new("terrace embedding 1");
        hasher.part(self.settings.model.as_bytes());
        hasher.part(&(self.settings.dimensions as u64).to_le_bytes());
        hasher.part(self.settings.task.as_bytes());
        // Two precisions are two values, of which one may not answer for the other.
        hasher.part(&[self.settings.precision as u8]);
        hasher.part(text.as_bytes());
        hasher.digest()
    }
}

impl EmbeddingSettings {
    /// The vectors as they are kept, if all are of the right number and dimensions.
    fn checked(&self, made: &[Vec<f32>], expected: usize) -> Result<Vec<Vector>> {
        if made.len() != expected {
            let message = format!("the model gave {} vectors for {expected} texts", made.len());
            return Err(Error::new(ErrorKind::Load, message));
        }
        if let Some(wrong) = made.iter().find(|vector| vector.len() != self.dimensions) {
            let message =
                format!("the model gave a vector of {} dimensions, not of {}", wrong.len(), self.dimensions);
            return Err(Error::new(ErrorKind::Load, message));
        }
        made.iter().map(|vector| Vector::new(vector, self.precision)).collect()
    }
}

impl fmt::Debug for Embeddings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Embeddings").field("settings", &self.settings).finish_non_exhaustive()
    }
}
