//! Two tenants crawl the same pages with several crawlers: each content is stored once for each tenant.
//!
//! With a folder as its argument, the program crawls the files in it; without one, some pages of its own.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use futures_util::future::join_all;
use terrace::{
    BoxError,
    config::{Config, Stack},
};
use terrace_agent::{Media, MediaSettings, Page, Seen};

/// URL and content of each page. Some have the content of another one.
fn pages() -> std::io::Result<Vec<(String, Vec<u8>)>> {
    let Some(folder) = std::env::args().nth(1) else {
        let page = |at: u32| (format!("https://example.org/{at}"), format!("page {}", at % 7).into_bytes());
        return Ok((0..20).map(page).collect());
    };
    let mut pages = Vec::new();
    for file in std::fs::read_dir(folder)? {
        let path = file?.path();
        if path.is_file() {
            let content = std::fs::read(&path)?;
            pages.push((path.display().to_string(), content.clone()));
            pages.push((format!("{}?copy", path.display()), content));
        }
    }
    Ok(pages)
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let stack = Stack::new(&Config::in_memory().with_env()?)?;
    let media = Media::new(&stack, MediaSettings::default())?;
    let pages = Arc::new(pages()?);
    for tenant in ["ann", "bob"] {
        let stored = Arc::new(AtomicUsize::new(0));
        let crawlers = (0..4).map(|_| {
            let (media, pages, stored) = (media.clone(), Arc::clone(&pages), Arc::clone(&stored));
            async move {
                for (url, content) in pages.iter() {
                    let stored = Arc::clone(&stored);
                    let store = || async move {
                        let number = stored.fetch_add(1, Ordering::SeqCst);
                        Ok::<_, std::io::Error>(Page { key: format!("blob/{number}"), thumbnail: None })
                    };
                    media.claim(tenant, url, content, store).await?;
                }
                Ok::<_, terrace::Error>(())
            }
        });
        join_all(crawlers).await.into_iter().collect::<Result<Vec<_>, _>>()?;
        let stored = stored.load(Ordering::SeqCst);
        println!("{tenant}: {} pages, 4 crawlers, {stored} contents stored", pages.len());
    }
    if let Some((url, content)) = pages.first()
        && let Seen::Known { page, same_url } = media.should_skip("ann", url, content).await?
    {
        println!("{url} is at {}, same URL: {same_url}", page.key);
    }
    media.close().await?;
    Ok(())
}
