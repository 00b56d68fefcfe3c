//! Programs that behave as clients, and programs that do not.

use std::path::Path;
use std::time::Duration;

use checkers::{F, Outcome, Value};
use workloads::client::exec::ExecError;
use workloads::client::{At, ExecClient};
use workloads::{Client, Completion, Invocation};

/// Far longer than anything here takes, so that no test depends on how fast the machine is.
const LONG: Duration = Duration::from_secs(60);

fn at(thread: u32) -> At<'static> {
    At {
        thread,
        node: 2,
        address: "127.0.0.1:7",
    }
}

fn operation(f: F, value: Value) -> Invocation {
    Invocation::new(f, Some(Value::str("x")), value)
}

fn write(value: i64) -> Invocation {
    operation(F::Write, Value::Int(value))
}

/// The command of a program written in the language of the shell.
fn program(dir: &Path, text: &str) -> String {
    let file = dir.join("program");
    std::fs::write(&file, text).unwrap();
    format!("sh {}", file.display())
}

async fn one(text: &str, timeout: Duration, operation: &Invocation) -> Completion {
    let dir = tempfile::tempdir().unwrap();
    let client = ExecClient::new(&program(dir.path(), text), None, timeout).unwrap();
    client.invoke(at(1), operation).await
}

#[tokio::test]
async fn answers_are_taken_at_their_word() {
    let says = |answer: &str| format!("while read line; do echo '{answer}'; done");
    let read = operation(F::Read, Value::Nil);
    let answer = one(&says(r#"{"type":"ok","value":[1,2]}"#), LONG, &read).await;
    assert_eq!(answer.outcome, Outcome::Ok);
    assert_eq!(answer.value, [1, 2].into_iter().map(Value::Int).collect());
    let answer = one(&says(r#"{"type":"ok"}"#), LONG, &write(5)).await;
    assert_eq!((answer.outcome, answer.value), (Outcome::Ok, Value::Int(5)));
    let refused = r#"{"id":1,"type":"fail","error":"not-leader","leader":"n3","node":"n2"}"#;
    let answer = one(&says(refused), LONG, &write(5)).await;
    assert_eq!(answer.outcome, Outcome::Fail);
    assert_eq!(answer.error.as_deref(), Some("not-leader"));
    assert_eq!(answer.leader_hint, Some(3));
    assert_eq!(&*answer.witness.unwrap().node, "n2");
    let answer = one(&says(r#"{"type":"info"}"#), LONG, &write(5)).await;
    assert_eq!(
        (answer.outcome, answer.error.as_deref()),
        (Outcome::Info, Some("unnamed"))
    );
}

#[tokio::test]
async fn what_is_no_answer_leaves_the_outcome_unknown() {
    for (text, why) in [
        ("read line; echo gibberish; sleep 600", "bad-response"),
        (
            r#"read line; echo '{"type":"maybe"}'; sleep 600"#,
            "bad-response",
        ),
        // The answer to another operation.
        (
            r#"read line; echo '{"id":7,"type":"ok"}'; sleep 600"#,
            "bad-response",
        ),
        ("read line", "program-ended"),
        (r#"read line; printf '{"type":"ok"}'"#, "program-ended"),
    ] {
        let answer = one(text, LONG, &write(1)).await;
        assert_eq!(
            (answer.outcome, answer.error.as_deref()),
            (Outcome::Info, Some(why)),
            "{text}"
        );
    }
    // A read that shows nothing.
    let silent = r#"read line; echo '{"type":"ok"}'; sleep 600"#;
    let answer = one(silent, LONG, &operation(F::Read, Value::Nil)).await;
    assert_eq!(answer.error.as_deref(), Some("bad-response"));
    let answer = one("sleep 600", Duration::from_millis(50), &write(1)).await;
    assert_eq!(
        (answer.outcome, answer.error.as_deref()),
        (Outcome::Info, Some("timeout"))
    );
}

#[tokio::test]
async fn each_thread_has_a_program_of_its_own_and_another_after_an_unknown_end() {
    let dir = tempfile::tempdir().unwrap();
    let text = r#"
echo "of thread $QUORATE_THREAD" >&2
while read line; do
  case "$line" in *'"value":13'*) exit 1;; esac
  echo "{\"type\":\"ok\",\"value\":$$}"
done"#;
    let command = program(dir.path(), text);
    let client = ExecClient::new(&command, Some(dir.path().to_owned()), LONG).unwrap();
    let ask = async |thread, value| client.invoke(at(thread), &write(value)).await;
    let (first, again, other) = (ask(1, 1).await, ask(1, 2).await, ask(2, 1).await);
    assert_eq!(first.value, again.value);
    assert_ne!(first.value, other.value);
    assert_eq!(ask(1, 13).await.error.as_deref(), Some("program-ended"));
    let next = ask(1, 3).await;
    assert_eq!(next.outcome, Outcome::Ok);
    assert_ne!(next.value, first.value);
    assert_eq!(ask(2, 2).await.value, other.value);
    let kept = |file| std::fs::read_to_string(dir.path().join(file)).unwrap();
    assert_eq!(kept("t1.log"), "of thread 1\nof thread 1\n");
    assert_eq!(kept("t2.log"), "of thread 2\n");
}

#[tokio::test]
async fn a_program_is_told_everything_of_an_operation() {
    let dir = tempfile::tempdir().unwrap();
    let text = format!(
        "while read line; do echo \"$line\" >> {}/asked; echo '{{\"type\":\"ok\"}}'; done",
        dir.path().display()
    );
    let client = ExecClient::new(&program(dir.path(), &text), None, LONG).unwrap();
    client.invoke(at(1), &write(5)).await;
    let swap = [Value::Int(5), Value::Nil].into_iter().collect();
    client.invoke(at(1), &operation(F::Cas, swap)).await;
    let asked = std::fs::read_to_string(dir.path().join("asked")).unwrap();
    let lines: Vec<_> = asked.lines().collect();
    assert_eq!(
        lines,
        [
            r#"{"id":1,"type":"invoke","node":"n2","address":"127.0.0.1:7","f":"write","key":"x","value":5}"#,
            r#"{"id":2,"type":"invoke","node":"n2","address":"127.0.0.1:7","f":"cas","key":"x","value":[5,null]}"#,
        ]
    );
}

#[test]
fn a_program_that_cannot_be_one_is_refused_at_once() {
    let new = |command: &str| ExecClient::new(command, None, LONG).map(drop);
    assert!(new("sh -c true").is_ok());
    for missing in ["", "no-such-program-anywhere", "/no/such/program"] {
        assert!(
            matches!(new(missing), Err(ExecError::Missing(_))),
            "{missing}"
        );
    }
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("text");
    std::fs::write(&file, "no program").unwrap();
    let refused = new(file.to_str().unwrap()).unwrap_err();
    assert!(refused.to_string().contains("chmod +x"), "{refused}");
}
