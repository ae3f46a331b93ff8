//! What is known of pictures and crawled pages, by their content.

use std::{fmt, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use terrace::{BoxError, Digest, Error, Forever, Lease, Level, Memory, Result, Tenants, config::Stack};

use crate::hash::PartHasher;

/// How long each kind lives in Redis. The stack's database keeps it without an end, and fills Redis again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MediaSettings {
    /// The first part of the name of each cache; `media`.
    pub namespace: String,
    /// Faces; one hour.
    pub faces: Duration,
    /// Perceptual hashes; two hours.
    pub hashes: Duration,
    /// Crawled pages; 24 hours.
    pub crawl: Duration,
    /// How long a claimed page may be worked on; five minutes.
    pub deadline: Duration,
}

impl Default for MediaSettings {
    fn default() -> Self {
        let hours = |hours: u64| Duration::from_secs(hours * 3600);
        Self {
            namespace: "media".to_owned(),
            faces: hours(1),
            hashes: hours(2),
            crawl: hours(24),
            deadline: Duration::from_secs(300),
        }
    }
}

/// A face that was found in a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Face {
    /// Left, top, width and height, in the units of the caller.
    pub area: [f32; 4],
    /// The embedding of the face.
    pub vector: Vec<f32>,
    /// How sure the detector is.
    pub score: f32,
}

/// What is kept of a crawled page.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Page {
    /// Where the application stored the content.
    pub key: String,
    /// Where it stored a thumbnail, if there is one.
    pub thumbnail: Option<String>,
}

/// Whether a crawled content is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// No crawler has stored this content.
    New,
    /// The content is stored.
    Known {
        /// What is kept of it.
        page: Page,
        /// Whether it was found at this URL before, and not at another one alone.
        same_url: bool,
    },
}

/// The result of a claim.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// What is kept of the content.
    pub page: Page,
    /// Whether this caller processed the content.
    pub new_content: bool,
    /// Whether this caller is the first that found the content at this URL.
    pub new_url: bool,
}

/// Caches of what is known of pictures and crawled pages. The key of an entry is a hash of the content: one picture under
/// two names is one entry. Tenants never see each other's entries.
///
/// The kinds are caches of their own, named `media-faces`, `media-hashes` and `media-crawl`. For a database that is to
/// keep them over a crash, set `logged_copies` for Postgres; SQLite keeps them anyway.
///
/// # Cost
/// A read hashes the content, and makes no trip where near has the entry.
///
/// ```
/// use terrace::config::{Config, Stack};
/// use terrace_agent::{Media, MediaSettings, Page, Seen};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> terrace::Result<()> {
/// let media = Media::new(&Stack::new(&Config::in_memory())?, MediaSettings::default())?;
/// let (url, bytes) = ("https://example.org/cat.jpg", b"a picture");
/// assert_eq!(media.should_skip("ann", url, bytes).await?, Seen::New);
/// let store = || async { Ok::<_, std::io::Error>(Page { key: "blob/1".into(), thumbnail: None }) };
/// assert!(media.claim("ann", url, bytes, store).await?.new_content);
/// let again = media.claim("ann", "https://example.org/copy.jpg", bytes, store).await?;
/// assert!(!again.new_content && again.new_url);
/// assert_eq!(media.should_skip("bob", url, bytes).await?, Seen::New);
///
/// media.put_hash("ann", bytes, 0x0123_4567_89ab_cdef).await?;
/// assert_eq!(media.hash("ann", bytes).await?, Some(0x0123_4567_89ab_cdef));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Media(Arc<Inner>);

struct Inner {
    faces: Kind<Vec<Face>>,
    hashes: Kind<u64>,
    pages: Kind<Page>,
}

type Kind<V> = Tenants<Digest, V, Memory<Digest, V>>;

impl Media {
    /// Caches over the tiers of `stack`.
    ///
    /// # Errors
    /// [`ErrorKind::Config`](terrace::ErrorKind::Config) for a life or deadline of zero.
    pub fn new(stack: &Stack, settings: MediaSettings) -> Result<Self> {
        let lives = [settings.faces, settings.hashes, settings.crawl, settings.deadline];
        if lives.iter().any(Duration::is_zero) {
            let message = "the lives of the kinds and the deadline are longer than zero";
            return Err(Error::config(message).in_cache(settings.namespace));
        }
        let inner = Inner {
            faces: kind(stack, &settings, "faces", settings.faces)?,
            hashes: kind(stack, &settings, "hashes", settings.hashes)?,
            pages: kind(stack, &settings, "crawl", settings.crawl)?,
        };
        Ok(Self(Arc::new(inner)))
    }

    /// The perceptual hash of a picture, if it is known.
    ///
    /// # Errors
    /// The errors of [`Cache::get`](terrace::Cache::get).
    pub async fn hash(&self, tenant: &str, picture: &[u8]) -> Result<Option<u64>> {
        Ok(self.0.hashes.tenant(tenant)?.get(&of_content(picture)).await?.map(|hash| *hash))
    }

    /// Keeps the perceptual hash of a picture.
    ///
    /// # Errors
    /// The errors of [`Cache::put`](terrace::Cache::put).
    pub async fn put_hash(&self, tenant: &str, picture: &[u8], hash: u64) -> Result<()> {
        self.0.hashes.tenant(tenant)?.put(&of_content(picture), hash).await.map(drop)
    }

    /// The perceptual hash of a picture, which `compute` makes once among all processes.
    ///
    /// # Errors
    /// The errors of [`Cache::get_or_load`](terrace::Cache::get_or_load).
    pub async fn hash_or<F, Fut, E>(&self, tenant: &str, picture: &[u8], compute: F) -> Result<u64>
    where
        F: FnOnce() -> Fut + Send,
        Fut: Future<Output = Result<u64, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        Ok(*self.0.hashes.tenant(tenant)?.get_or_load(&of_content(picture), compute).await?)
    }

    /// The faces of a picture, if they are known. A picture without a face has an empty list.
    ///
    /// # Errors
    /// The errors of [`Cache::get`](terrace::Cache::get).
    pub async fn faces(&self, tenant: &str, picture: &[u8]) -> Result<Option<Vec<Face>>> {
        let faces = self.0.faces.tenant(tenant)?.get(&of_content(picture)).await?;
        Ok(faces.map(|faces| Vec::clone(&faces)))
    }

    /// Keeps the faces of a picture.
    ///
    /// # Errors
    /// The errors of [`Cache::put`](terrace::Cache::put).
    pub async fn put_faces(&self, tenant: &str, picture: &[u8], faces: Vec<Face>) -> Result<()> {
        self.0.faces.tenant(tenant)?.put(&of_content(picture), faces).await.map(drop)
    }

    /// Whether a crawled content is stored already.
    ///
    /// # Errors
    /// The errors of [`Cache::get`](terrace::Cache::get).
    ///
    /// # Cost
    /// One trip to each tier.
    pub async fn should_skip(&self, tenant: &str, url: &str, content: &[u8]) -> Result<Seen> {
        let (page, pair) = (of_content(content), of_pair(url, content));
        let found = self.0.pages.tenant(tenant)?.get_many(&[page, pair]).await.into_values()?;
        Ok(match &found[..] {
            [Some(page), pair] => Seen::Known { page: Page::clone(page), same_url: pair.is_some() },
            _ => Seen::New,
        })
    }

    /// Stores a crawled content that no crawler has stored: `store` runs once for a content, among all processes that
    /// share the stack's Redis or Postgres, while the others wait for its page. If its process dies, another one runs its
    /// own `store` within two seconds.
    ///
    /// # Errors
    /// The errors of [`Cache::get_or_load`](terrace::Cache::get_or_load). After an error of `store` the content is new
    /// again.
    pub async fn claim<F, Fut, E>(&self, tenant: &str, url: &str, content: &[u8], store: F) -> Result<Claim>
    where
        F: FnOnce() -> Fut + Send + 'static,
        Fut: Future<Output = Result<Page, E>> + Send + 'static,
        E: Into<BoxError>,
    {
        let pages = self.0.pages.tenant(tenant)?;
        let (ran, mut did_run) = tokio::sync::oneshot::channel();
        let load = || async move {
            let _ = ran.send(());
            store().await
        };
        let page = pages.get_or_load(&of_content(content), load).await?;
        let new_content = did_run.try_recv().is_ok();
        let (ran, mut did_run) = tokio::sync::oneshot::channel();
        let copy = Page::clone(&page);
        let load = || async move {
            let _ = ran.send(());
            Ok::<_, std::convert::Infallible>(copy)
        };
        pages.get_or_load(&of_pair(url, content), load).await?;
        Ok(Claim { page: Page::clone(&page), new_content, new_url: did_run.try_recv().is_ok() })
    }

    /// Drops everything that is kept for a tenant.
    ///
    /// # Errors
    /// [`ErrorKind::Partial`](terrace::ErrorKind::Partial) if a tier did not confirm it: call it again. The other kinds
    /// were dropped nevertheless.
    pub async fn clear_tenant(&self, tenant: &str) -> Result<()> {
        let Inner { faces, hashes, pages } = &*self.0;
        let dropped = (
            faces.tenant(tenant)?.clear().await,
            hashes.tenant(tenant)?.clear().await,
            pages.tenant(tenant)?.clear().await,
        );
        dropped.0.and(dropped.1).and(dropped.2)
    }

    /// Waits until all tiers answer.
    ///
    /// # Errors
    /// As [`Cache::ready`](terrace::Cache::ready).
    pub async fn ready(&self) -> Result<()> {
        let Inner { faces, hashes, pages } = &*self.0;
        faces.tenant("")?.ready().await?;
        hashes.tenant("")?.ready().await?;
        pages.tenant("")?.ready().await.map(drop)
    }

    /// Ends the caches. It waits for fills under way for at most five seconds each.
    pub async fn close(&self) -> Result<()> {
        let Inner { faces, hashes, pages } = &*self.0;
        faces.tenant("")?.close().await;
        hashes.tenant("")?.close().await;
        pages.tenant("")?.close().await;
        Ok(())
    }
}

fn kind<V>(stack: &Stack, settings: &MediaSettings, name: &str, redis_ttl: Duration) -> Result<Kind<V>>
where
    V: Serialize + DeserializeOwned + Send + Sync + 'static,
{
    let builder = stack.builder_with_redis_ttl(format!("{}-{name}", settings.namespace), redis_ttl);
    builder
        .expire(Forever)
        .near_ttl(redis_ttl)
        .level(Level::Fenced)
        .stampede(Lease)
        .load_deadline(settings.deadline)
        .build_per_tenant()
}

fn of_content(content: &[u8]) -> Digest {
    let mut hasher = PartHasher::new("terrace content 1");
    hasher.part(content);
    hasher.digest()
}

fn of_pair(url: &str, content: &[u8]) -> Digest {
    let mut hasher = PartHasher::new("terrace url and content 1");
    hasher.part(url.as_bytes());
    hasher.part(content);
    hasher.digest()
}

impl fmt::Debug for Media {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Media").finish_non_exhaustive()
    }
}
