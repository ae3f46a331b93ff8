//! A tour of requests, which prints what each one returned.

use std::{
    error::Error,
    net::SocketAddr,
    time::{Duration, Instant},
};

use sqlx::PgPool;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::sleep,
};

use crate::{FRESH, servers::Servers};

type Outcome<T = ()> = Result<T, Box<dyn Error>>;

/// Longer than any step takes, on a busy machine too.
const PATIENCE: Duration = Duration::from_secs(30);

/// The result of a `GET`.
struct Answer {
    name: String,
    from: String,
    took: Duration,
}

pub(crate) async fn run(server: SocketAddr, pool: &PgPool, servers: &Servers) -> Outcome {
    println!("Reads");
    expect(&get(server, "cold", 7).await?, "User 7", "Postgres")?;
    // A new watch clears the cache once, so this waits until the near tier has the user again.
    until(server, "hot", 7, |answer| answer.from == "near").await?;

    println!("PUT /users/7 \"Ada\"");
    let put = request(server, "PUT", 7, "\"Ada\"").await?;
    if !put.starts_with("HTTP/1.1 204") {
        return Err(put.into());
    }
    expect(&get(server, "at once", 7).await?, "Ada", "Postgres")?;

    println!("UPDATE public.users SET name = 'Grace', as psql would");
    let (committed, update) = (Instant::now(), "UPDATE public.users SET name = 'Grace' WHERE id = 7");
    sqlx::query(update).execute(pool).await?;
    until(server, "seen", 7, |answer| answer.name == "Grace").await?;
    println!("{:>33.1} ms after the commit", millis(committed.elapsed()));

    let Servers::Private { redis, postgres } = servers else { return Ok(()) };
    println!("Postgres is killed, and {} seconds pass", FRESH.as_secs());
    until(server, "hot", 9, |answer| answer.from == "near").await?;
    postgres.kill9()?;
    sleep(FRESH).await;
    expect(&get(server, "served", 9).await?, "User 9", "redis, stale")?;
    postgres.restart().await?;
    println!("Postgres is back");
    until(server, "fresh", 9, |answer| !answer.from.ends_with("stale")).await?;

    println!("Redis is killed");
    redis.kill9()?;
    expect(&get(server, "cold", 8).await?, "User 8", "Postgres")
}

/// Reads a user once and prints the answer.
async fn get(server: SocketAddr, what: &str, id: i64) -> Outcome<Answer> {
    let answer = ask(server, id).await?;
    print(what, &answer);
    Ok(answer)
}

/// Reads a user until `is_so` holds for the answer, and prints that answer.
async fn until(server: SocketAddr, what: &str, id: i64, is_so: impl Fn(&Answer) -> bool) -> Outcome {
    let begun = Instant::now();
    loop {
        let answer = ask(server, id).await?;
        if is_so(&answer) {
            print(what, &answer);
            return Ok(());
        }
        if begun.elapsed() > PATIENCE {
            return Err(format!("{what}: the answer is still {} from {}", answer.name, answer.from).into());
        }
        sleep(Duration::from_millis(1)).await;
    }
}

fn print(what: &str, Answer { name, from, took }: &Answer) {
    println!("  {what:<10}{name:<10}{:>11.1} ms  from {from}", millis(*took));
}

fn expect(answer: &Answer, name: &str, from: &str) -> Outcome {
    match answer.name == name && answer.from == from {
        true => Ok(()),
        false => Err(format!("the answer is not {name} from {from}").into()),
    }
}

async fn ask(server: SocketAddr, id: i64) -> Outcome<Answer> {
    let begun = Instant::now();
    let reply = request(server, "GET", id, "").await?;
    let took = begun.elapsed();
    let (head, body) = reply.split_once("\r\n\r\n").ok_or("the answer is not HTTP")?;
    let from =
        head.lines().find_map(|line| line.strip_prefix("served-from: ")).ok_or_else(|| head.to_owned())?;
    let user: crate::User = serde_json::from_str(body)?;
    Ok(Answer { name: user.name, from: from.to_owned(), took })
}

/// Sends one HTTP request over a connection of its own.
async fn request(server: SocketAddr, method: &str, id: i64, json: &str) -> Outcome<String> {
    let mut connection = TcpStream::connect(server).await?;
    let request = format!(
        "{method} /users/{id} HTTP/1.1\r\nhost: {server}\r\nconnection: close\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{json}",
        json.len()
    );
    connection.write_all(request.as_bytes()).await?;
    let mut reply = String::new();
    connection.read_to_string(&mut reply).await?;
    Ok(reply)
}

fn millis(took: Duration) -> f64 {
    took.as_secs_f64() * 1_000.0
}
