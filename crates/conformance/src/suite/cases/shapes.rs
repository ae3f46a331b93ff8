//! Keys and values of every shape, and namespaces that share no data.

use bytes::Bytes;
use terrace_tier::{Condition, ErrorKind, Level, Namespace, Order, Role};

use crate::suite::{
    Failure, Outcome,
    bench::{Bench, kept},
    ensure, ensure_eq,
};

/// Keys that a text protocol, a glob, an SQL statement or a trim would confuse.
fn hostile_keys() -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = [
        &b""[..],
        b" ",
        b"a",
        b"a ",
        b" a",
        b"A",
        b"a\0",
        b"\0",
        b"\0\0",
        b"a\0b",
        b"\r\n",
        b"a\r\nSET b 1\r\n",
        b"a\n",
        b"*",
        b"a*",
        b"?",
        b"[a]",
        b"{a}",
        b"{}",
        b"a:b",
        b"a::b",
        b":",
        b"%",
        b"_",
        b"%61",
        b"a%00",
        b"'",
        b"\"",
        b"\\",
        b"\\0",
        b"';DROP TABLE x;--",
        b"$1",
        b"\xff",
        b"\xff\xfe",
        b"\xc3\x28",
        b"\xc3\xa9",
        b"e\xcc\x81",
        "\u{1F980}".as_bytes(),
        b"\x7f",
        b"\x80",
        b"../a",
        b"/",
        b"a/b",
        b"@a",
        b"=00",
    ]
    .iter()
    .map(|key| key.to_vec())
    .collect();
    keys.push((0..=255).collect());
    keys.push(vec![b'x'; 4096]);
    keys.push([vec![b'x'; 4095], vec![b'y']].concat());
    keys.push(vec![0; 4096]);
    keys.push(vec![0xff; 2705]);
    keys
}

pub(crate) async fn hostile_keys_are_keys_like_any_other(bench: &Bench) -> Outcome {
    let keys = hostile_keys();
    let body = |number: usize| Bytes::from(format!("body {number}"));
    for (number, bytes) in keys.iter().enumerate() {
        let key = bench.key(bytes);
        bench.misses(&key).await?;
        kept(&bench.write(&key, Order::Author(Condition::Always), Some(body(number)), bench.long()).await?)?;
    }
    for (number, bytes) in keys.iter().enumerate() {
        let found = bench.hit(&bench.key(bytes)).await?.body;
        let shown = bytes.escape_ascii();
        ensure_eq!(found, Some(body(number)), "each key must have its own value: b\"{shown}\"");
    }
    for bytes in &keys {
        let key = bench.key(bytes);
        ensure!(bench.remove(&key).await?.0, "the value of b\"{}\" must be there", bytes.escape_ascii());
        bench.misses(&key).await?;
    }
    Ok(())
}

async fn comes_back(bench: &Bench, name: &str, body: Bytes) -> Outcome {
    let key = bench.key(name);
    let order = Order::Author(Condition::Always);
    kept(&bench.write(&key, order, Some(body.clone()), bench.long()).await?)?;
    ensure!(bench.hit(&key).await?.body == Some(body), "the value must come back byte by byte: {name}");
    Ok(())
}

pub(crate) async fn an_empty_value_is_a_value(bench: &Bench) -> Outcome {
    comes_back(bench, "empty", Bytes::new()).await?;
    ensure!(
        bench.remove(&bench.key("empty")).await?.0,
        "an empty value must be a value, not a negative entry"
    );
    Ok(())
}

pub(crate) async fn values_of_all_bytes_and_1_mib_come_back(bench: &Bench) -> Outcome {
    comes_back(bench, "all bytes", (0..=255u8).collect()).await?;
    comes_back(bench, "NUL", Bytes::from_static(b"\0")).await?;
    comes_back(bench, "text", Bytes::from_static(b"\r\n+OK\r\n$-1\r\n'; --")).await?;
    // The period of the bytes is no power of two, so that chunks in the wrong order show.
    let large = (0..1usize << 20).map(|at| (at % 251) as u8).collect();
    comes_back(bench, "1 MiB", large).await
}

pub(crate) async fn a_value_of_64_mib_is_kept_or_too_large(bench: &Bench) -> Outcome {
    let key = bench.key("k");
    bench.put(&key, "small").await?;
    let body = Bytes::from(vec![b'x'; 64 << 20]);
    let order = Order::Author(Condition::Always);
    match bench.write(&key, order, Some(body.clone()), bench.long()).await {
        Ok(reply) => {
            kept(&reply)?;
            ensure!(bench.hit(&key).await?.body == Some(body), "a kept value must come back");
        }
        Err(Failure::Tier(error)) => {
            let typed = error.kind() == ErrorKind::TooLarge;
            ensure!(typed, "the error must be `TooLarge`\n  found    {error:?}");
        }
        Err(broken) => return Err(broken),
    }
    // Neither outcome may harm later operations.
    bench.put(&key, "small again").await?;
    bench.reads(&key, "small again").await?;
    bench.remove(&key).await?;
    bench.misses(&key).await
}

pub(crate) async fn namespaces_are_apart(bench: &Bench) -> Outcome {
    let other = bench.sibling(|namespace| namespace.name.push('2'))?;
    apart(bench, &other).await
}

pub(crate) async fn tenants_are_apart(bench: &Bench) -> Outcome {
    let alice = bench.sibling(|namespace| namespace.tenant = Some("alice".into()))?;
    let bob = bench.sibling(|namespace| namespace.tenant = Some("bob".into()))?;
    let unnamed = bench.sibling(|namespace| namespace.tenant = Some(String::new()))?;
    apart(&alice, &bob).await?;
    apart(&unnamed, bench).await?;
    apart(&bob, &unnamed).await
}

pub(crate) async fn names_that_read_alike_are_apart(bench: &Bench) -> Outcome {
    for separator in [":", "/", ".", "-", "@", "//", "}"] {
        let whole = bench.sibling(|namespace| namespace.name.push_str(&format!("{separator}b")))?;
        let (left, right) = (bench.key(format!("b{separator}c")), whole.key("c"));
        bench.put(&left, "left").await?;
        whole.misses(&right).await?;
        whole.put(&right, "right").await?;
        bench.reads(&left, "left").await?;
        let tenant = bench.sibling(|namespace| namespace.tenant = Some("b".into()))?;
        let third = tenant.key("c");
        tenant.put(&third, "third").await?;
        whole.reads(&right, "right").await?;
        bench.reads(&left, "left").await?;
        tenant.reads(&third, "third").await?;
        tenant.remove(&third).await?;
    }
    Ok(())
}

/// Checks that writes, leases and clears of one namespace leave the same key of the other alone.
async fn apart(one: &Bench, two: &Bench) -> Outcome {
    let (here, there) = (one.key("k"), two.key("k"));
    one.remove(&here).await?;
    two.remove(&there).await?;
    one.put(&here, "one").await?;
    two.misses(&there).await?;
    two.put(&there, "two").await?;
    one.reads(&here, "one").await?;
    one.remove(&here).await?;
    two.reads(&there, "two").await?;
    if one.role() == Role::Cache {
        let fence = two.lease(&two.key("leased")).await?;
        one.tier.clear().await?;
        two.reads(&there, "two").await?;
        kept(&two.fill(&two.key("leased"), fence, "filled").await?)?;
    }
    Ok(())
}

pub(crate) async fn a_namespace_with_other_options_is_in_use(bench: &Bench) -> Outcome {
    bench.sibling(|_| ())?;
    bench.sibling(|namespace| namespace.tenant = Some("tenant".into()))?;
    bench.sibling(|namespace| namespace.budget *= 2)?;
    let refused = |change: fn(&mut Namespace)| match bench.sibling(change) {
        Err(Failure::Tier(error)) => Some(error.kind()),
        _ => None,
    };
    let in_use = Some(ErrorKind::NamespaceInUse);
    let other_type = refused(|namespace| {
        (namespace.schema, namespace.shape) = (namespace.schema + 1, namespace.shape + 1)
    });
    ensure_eq!(other_type, None, "versions of a program whose value types differ share a namespace");
    let level = refused(|namespace| namespace.level = Level::Ttl);
    ensure!(
        level == in_use || level == Some(ErrorKind::Config),
        "another level must be refused\n  found    {level:?}"
    );
    let role = refused(|namespace| {
        namespace.role = if namespace.role == Role::Cache { Role::Store } else { Role::Cache };
    });
    // A backend that never takes the role may report `Config` for that reason.
    ensure!(
        role == in_use || role == Some(ErrorKind::Config),
        "another role must be refused\n  found    {role:?}"
    );
    Ok(())
}
