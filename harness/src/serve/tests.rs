use std::fs;
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use crate::report::{Format, fixture, formats, html};

/// A store on disk that is removed at the end of the test.
struct Scratch(PathBuf);

impl Scratch {
    fn new() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let path =
            std::env::temp_dir().join(format!("quorate-serve-{}-{number}", std::process::id()));
        fs::create_dir_all(path.join("store")).expect("temporary directory");
        Self(path)
    }

    fn store(&self) -> PathBuf {
        self.0.join("store")
    }

    fn add(&self, name: &str, time: &str) -> PathBuf {
        let directory = self.store().join(name).join(time);
        fs::create_dir_all(directory.join("nodes")).expect("run directory");
        let mut summary = fixture::valid();
        summary.name = name.to_owned();
        let json = formats::render(
            &summary,
            Format::Json,
            None,
            crate::report::screen::Style::PLAIN,
        )
        .expect("json");
        fs::write(directory.join("verdict.json"), json).expect("verdict");
        let page = html::render(&summary, &[] as &[checkers::Event], "");
        fs::write(directory.join("report.html"), page).expect("report");
        fs::write(directory.join("nodes/n1.log"), "listening\n").expect("log");
        directory
    }

    async fn serve(&self) -> String {
        let listener = tokio::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0))
            .await
            .expect("a free port");
        let address = listener.local_addr().expect("bound");
        let app = router(self.store(), address.ip());
        tokio::spawn(async move { axum::serve(listener, app).await });
        format!("http://{address}")
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn client() -> reqwest::Client {
    reqwest::Client::builder()
        .no_proxy()
        .build()
        .expect("a client")
}

async fn fetch(url: String) -> (u16, String) {
    let answer = client().get(url).send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.text().await.expect("text"))
}

#[test]
fn runs_are_listed_newest_first_without_links() {
    let scratch = Scratch::new();
    scratch.add("a", "20261121T100000Z");
    let newest = scratch.add("b", "20261121T110000Z");
    scratch.add("a", "20261121T105959Z");
    #[cfg(unix)]
    std::os::unix::fs::symlink(&newest, scratch.store().join("b/latest")).expect("a link");
    let running = scratch.store().join("c/20261121T120000Z");
    fs::create_dir_all(&running).expect("a run without verdict");
    fs::write(running.join("experiment.yaml"), "").expect("a file");
    fs::create_dir_all(scratch.store().join("c/empty")).expect("a folder that is no run");
    fs::write(scratch.store().join("notes.txt"), "").expect("a file");
    let runs = list(&scratch.store()).expect("listed");
    let times: Vec<_> = runs.iter().map(|r| (&*r.name, &r.time[9..13])).collect();
    assert_eq!(
        times,
        [("c", "1200"), ("b", "1100"), ("a", "1059"), ("a", "1000")]
    );
    assert!(runs[0].summary.is_err() && runs[1].summary.is_ok());
    assert!(list(&scratch.0.join("missing")).expect("listed").is_empty());
}

#[test]
fn filters_by_verdict_and_name() {
    let scratch = Scratch::new();
    scratch.add("raft-failover", "20261121T100000Z");
    let runs = list(&scratch.store()).expect("listed");
    let filter = |verdict: &str, name: &str| Filter {
        verdict: verdict.into(),
        name: name.into(),
    };
    assert!(filter("", "").admits(&runs[0]));
    assert!(filter("valid", "FAIL").admits(&runs[0]));
    assert!(!filter("invalid", "").admits(&runs[0]));
    assert!(!filter("", "etcd").admits(&runs[0]));
}

#[test]
fn no_path_leads_out_of_the_store() {
    let scratch = Scratch::new();
    let run = scratch.add("a", "20261121T100000Z");
    fs::write(scratch.0.join("secret"), "").expect("a file");
    #[cfg(unix)]
    std::os::unix::fs::symlink(scratch.0.join("secret"), run.join("stolen")).expect("a link");
    let store = scratch.store();
    assert!(resolve(&store, &["a", "20261121T100000Z", "verdict.json"]).is_some());
    for bad in [
        "..",
        ".",
        "",
        "../secret",
        "/etc/passwd",
        ".hidden",
        "a\\..\\b",
        "stolen",
    ] {
        let found = resolve(&store, &["a", "20261121T100000Z", bad]);
        assert_eq!(found, None, "{bad}");
    }
    assert_eq!(resolve(&store, &["..", "secret"]), None);
}

#[test]
fn only_this_machines_names_are_loopback() {
    for good in [
        "localhost",
        "LOCALHOST:8080",
        "127.0.0.1:8080",
        "127.0.0.1",
        "[::1]:80",
        "[::1]",
    ] {
        assert!(is_loopback_name(good), "{good}");
    }
    for bad in [
        "evil.example",
        "evil.example:8080",
        "10.0.0.1:80",
        "localhost.evil.example",
        "",
    ] {
        assert!(!is_loopback_name(bad), "{bad}");
    }
}

#[tokio::test]
async fn serves_the_list_the_report_and_the_files() {
    let scratch = Scratch::new();
    scratch.add("raft failover", "20261121T100000Z");
    fs::write(scratch.0.join("secret"), "hush").expect("a file");
    let base = scratch.serve().await;
    let (status, page) = fetch(format!("{base}/?verdict=valid")).await;
    assert_eq!(status, 200);
    let link = "/runs/raft%20failover/20261121T100000Z/";
    assert!(page.contains(&format!("{link}report.html")), "{page}");
    let (status, page) = fetch(format!("{base}/?verdict=invalid")).await;
    assert!(status == 200 && page.contains("No run matches"), "{page}");
    let (status, page) = fetch(format!("{base}{link}")).await;
    assert!(status == 200 && page.contains("nodes/n1.log"), "{page}");
    assert_eq!(fetch(format!("{base}{link}report.html")).await.0, 200);
    let (status, log) = fetch(format!("{base}{link}nodes/n1.log")).await;
    assert_eq!((status, log.as_str()), (200, "listening\n"));
    for bad in [
        "/runs/raft%20failover/20261121T100000Z/%2e%2e%2f%2e%2e%2f%2e%2e%2fsecret",
        "/runs/%2e%2e/secret",
        "/runs/..%2f..%2fsecret/x/",
        "/runs/raft%20failover/20261121T100000Z/nodes",
        "/runs/raft%20failover/never/",
        "/elsewhere",
    ] {
        let (status, page) = fetch(format!("{base}{bad}")).await;
        assert_eq!(status, 404, "{bad}");
        assert!(!page.contains("hush"), "{bad}");
    }
}

#[tokio::test]
async fn an_empty_store_says_what_to_do() {
    let scratch = Scratch::new();
    let (status, page) = fetch(scratch.serve().await).await;
    assert!(status == 200 && page.contains("quorate test"), "{page}");
}

#[tokio::test]
async fn a_rebound_name_is_refused() {
    let scratch = Scratch::new();
    let url = scratch.serve().await;
    let request = client().get(url).header("host", "evil.example");
    let answer = request.send().await.expect("an answer");
    assert_eq!(answer.status().as_u16(), 403);
}
