//! What is known of pictures and crawled pages, on real captures and pictures.
#![cfg(feature = "media")]
#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod support;

use std::{
    collections::{HashMap, HashSet},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use support::{data, memory};
use terrace::config::{Config, Stack};
use terrace_agent::{Face, Media, MediaSettings, Page, Seen};

fn media(stack: &Stack) -> Media {
    Media::new(stack, MediaSettings::default()).unwrap()
}

/// URL and digest of each capture; the digest stands for the content.
fn captures() -> Option<Vec<(String, String)>> {
    let text = String::from_utf8(data("openwayback_test-cdx.txt.gz")?).unwrap();
    let capture = |line: &str| {
        let fields: Vec<&str> = line.split(' ').collect();
        (fields.len() > 5).then(|| (fields[2].to_owned(), fields[5].to_owned()))
    };
    Some(text.lines().filter_map(capture).collect())
}

/// Claims all captures, shared among crawlers, and counts new contents and new pairs of URL and content.
async fn crawl(crawlers: &[Media], captures: &[(String, String)]) -> (usize, usize, usize) {
    let stored = Arc::new(AtomicUsize::new(0));
    let work = crawlers.iter().enumerate().map(|(number, media)| {
        let mine: Vec<_> = captures.iter().skip(number).step_by(crawlers.len()).cloned().collect();
        let (media, stored) = (media.clone(), Arc::clone(&stored));
        tokio::spawn(async move {
            let mut new = (0, 0);
            for (url, digest) in mine {
                let (key, stored) = (digest.clone(), Arc::clone(&stored));
                let store = || async move {
                    stored.fetch_add(1, Ordering::SeqCst);
                    Ok::<_, std::io::Error>(Page { key, thumbnail: None })
                };
                let claim = media.claim("crawl", &url, digest.as_bytes(), store).await.unwrap();
                assert_eq!(claim.page.key, digest);
                new.0 += usize::from(claim.new_content);
                new.1 += usize::from(claim.new_url);
            }
            new
        })
    });
    let mut sums = (0, 0);
    for ended in futures_util::future::join_all(work).await {
        let (contents, pairs) = ended.unwrap();
        sums = (sums.0 + contents, sums.1 + pairs);
    }
    (sums.0, sums.1, stored.load(Ordering::SeqCst))
}

#[tokio::test]
async fn one_crawler_finds_1244_new_pairs_and_1229_new_contents_of_2144() {
    let Some(captures) = captures() else { return };
    let stack = Stack::new(&Config::from_toml("[memory]\nentries = 100000").unwrap()).unwrap();
    let media = media(&stack);
    let mut skipped = 0;
    for (url, digest) in &captures {
        let seen = media.should_skip("first", url, digest.as_bytes()).await.unwrap();
        skipped += usize::from(matches!(seen, Seen::Known { same_url: true, .. }));
        let store = || async { Ok::<_, std::io::Error>(Page { key: String::new(), thumbnail: None }) };
        media.claim("first", url, digest.as_bytes(), store).await.unwrap();
    }
    let (contents, pairs, stored) = crawl(&[media], &captures).await;
    let all = captures.len();
    println!("{all} captures: {pairs} new and {skipped} skipped by URL and digest; {contents} new by digest");
    assert_eq!((all, pairs, skipped), (2144, 1244, 900));
    assert_eq!((contents, stored, all - contents), (1229, 1229, 915));
}

#[cfg(feature = "redis")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_crawlers_over_one_redis_find_the_same_sums() {
    let Some(captures) = captures() else { return };
    let server = terrace_testbed::Redis::start().await.unwrap();
    let toml = format!("[redis]\nurl = \"{}\"\nallow_plaintext = true\nbudget_ms = 5000", server.url());
    let crawlers: Vec<_> =
        (0..8).map(|_| media(&Stack::new(&Config::from_toml(&toml).unwrap()).unwrap())).collect();
    crawlers[0].ready().await.unwrap();
    let (contents, pairs, stored) = crawl(&crawlers, &captures).await;
    println!("eight crawlers: {pairs} new pairs, {contents} new contents, {stored} stored");
    assert_eq!((pairs, contents, stored), (1244, 1229, 1229));
}

#[tokio::test]
async fn pictures_are_known_by_their_bytes_and_tenants_never_meet() {
    let Some(reference) = data("images/reference_hashes.csv") else { return };
    let reference = String::from_utf8(reference).unwrap();
    let names: Vec<&str> = reference.lines().next().unwrap().split(',').collect();
    let column = names.iter().position(|name| *name == "phash64").unwrap();
    let of_file: HashMap<&str, u64> = reference
        .lines()
        .skip(1)
        .filter_map(|line| {
            let fields: Vec<&str> = line.split(',').collect();
            let file = fields[0].rsplit('/').next()?;
            Some((file, u64::from_str_radix(fields.get(column)?, 16).ok()?))
        })
        .collect();
    let folder = std::path::Path::new(&std::env::var_os("TERRACE_DATA").unwrap()).join("images");
    let files = std::fs::read_dir(folder).unwrap().map(|file| file.unwrap().path());
    let pictures: Vec<_> = files
        .filter(|path| path.extension().is_some_and(|extension| extension != "csv"))
        .map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read(&path).unwrap()))
        .collect();
    let media = media(&memory());
    let mut distinct = HashSet::new();
    for (name, bytes) in &pictures {
        assert_eq!(media.hash("ann", bytes).await.unwrap(), None, "{name}");
        media.put_hash("ann", bytes, of_file[name.as_str()]).await.unwrap();
        distinct.insert(bytes);
    }
    let mut hashes = Vec::new();
    for (name, bytes) in &pictures {
        assert_eq!(media.hash("bob", bytes).await.unwrap(), None);
        let hash = media.hash("ann", bytes).await.unwrap().unwrap();
        assert_eq!(hash, of_file[name.as_str()]);
        hashes.push((name.as_str(), hash));
    }
    let variants =
        ["aaa-orig.jpg", "blur-a-little.jpg", "sharpen-a-lot.jpg", "shrink-a-lot.jpg", "square-256x256.jpg"];
    let (mut near, mut far) = (0, 64);
    for (at, (one, hash)) in hashes.iter().enumerate() {
        for (other, second) in &hashes[..at] {
            let distance = (hash ^ second).count_ones();
            match variants.contains(one) && variants.contains(other) {
                true => near = near.max(distance),
                false => far = far.min(distance),
            }
        }
    }
    println!("{} pictures, variants at most {near} apart, others at least {far}", distinct.len());
    assert_eq!(distinct.len(), 10);
    assert!(near <= 4 && far >= 22, "{near}, {far}");
}

#[tokio::test]
async fn kinds_are_apart_and_a_tenant_can_be_cleared() {
    let media = media(&memory());
    let face = Face { area: [1.0, 2.0, 3.0, 4.0], vector: vec![0.5; 128], score: 0.9 };
    media.put_faces("ann", b"p", vec![face.clone()]).await.unwrap();
    media.put_faces("bob", b"p", Vec::new()).await.unwrap();
    assert_eq!(media.hash("ann", b"p").await.unwrap(), None, "faces are not a hash");
    assert_eq!(media.should_skip("ann", "u", b"p").await.unwrap(), Seen::New);
    assert_eq!(media.faces("ann", b"p").await.unwrap(), Some(vec![face]));
    assert_eq!(media.faces("bob", b"p").await.unwrap(), Some(Vec::new()), "no face is an answer too");
    let computed = media.hash_or("ann", b"p", || async { Ok::<_, std::io::Error>(7) }).await.unwrap();
    let again = media.hash_or("ann", b"p", || async { Ok::<_, std::io::Error>(8) }).await.unwrap();
    assert_eq!((computed, again), (7, 7));
    media.clear_tenant("ann").await.unwrap();
    assert_eq!(media.faces("ann", b"p").await.unwrap(), None);
    assert_eq!(media.hash("ann", b"p").await.unwrap(), None);
    assert_eq!(media.faces("bob", b"p").await.unwrap(), Some(Vec::new()));
}

#[tokio::test]
async fn a_content_whose_store_failed_is_new_again() {
    let media = media(&memory());
    let fails = || async { Err::<Page, _>(std::io::Error::other("the disk is full")) };
    let error = media.claim("t", "u", b"c", fails).await.unwrap_err();
    assert!(error.load_error::<std::io::Error>().is_some(), "{error}");
    assert_eq!(media.should_skip("t", "u", b"c").await.unwrap(), Seen::New);
    let stores = || async { Ok::<_, std::io::Error>(Page { key: "k".into(), thumbnail: Some("t".into()) }) };
    assert!(media.claim("t", "u", b"c", stores).await.unwrap().new_content);
    let Seen::Known { page, same_url } = media.should_skip("t", "other", b"c").await.unwrap() else {
        panic!()
    };
    assert_eq!((page.thumbnail.as_deref(), same_url), (Some("t"), false));
}

#[cfg(feature = "postgres")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_postgres_loses_none_of_the_logged_copies() {
    let server = terrace_testbed::Postgres::start().await.unwrap();
    for (logged, expected) in [(true, 200), (false, 0)] {
        let toml = format!(
            "[postgres]\nurl = \"{}\"\nschema = \"logged_{logged}\"\nlogged_copies = {logged}\nbudget_ms = 5000",
            server.url()
        );
        let process = || media(&Stack::new(&Config::from_toml(&toml).unwrap()).unwrap());
        let media = process();
        media.ready().await.unwrap();
        for number in 0..200_u64 {
            media.put_hash("t", &number.to_le_bytes(), number).await.unwrap();
        }
        server.kill9().unwrap();
        server.restart().await.unwrap();
        let media = process();
        tokio::time::timeout(Duration::from_secs(60), media.ready()).await.unwrap().unwrap();
        let mut found = 0;
        for number in 0..200_u64 {
            found += usize::from(media.hash("t", &number.to_le_bytes()).await.unwrap() == Some(number));
        }
        println!("logged {logged}: {found} of 200 after kill -9");
        assert_eq!(found, expected, "logged {logged}");
    }
}

#[test]
fn a_life_of_zero_is_an_error() {
    let settings = MediaSettings { hashes: Duration::ZERO, ..MediaSettings::default() };
    let error = Media::new(&memory(), settings).unwrap_err().to_string();
    assert!(error.contains("media") && error.contains("longer than zero"), "{error}");
}
