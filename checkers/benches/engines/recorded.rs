// Recorded histories: registers (of etcd) and texts by key (Porcupine's KV logs).

use std::collections::BTreeMap;
use std::sync::Arc;

use checkers::{F, History, Outcome, Value};

/// The histories of `../shared/histories` that a model of both fits.
fn files() -> Option<Vec<PathBuf>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/histories");
    let mut files = Vec::new();
    for part in ["porcupine/jepsen", "porcupine/kv", "etcd-edn", "knossos"] {
        let mut waiting = vec![folder.join(part)];
        while let Some(path) = waiting.pop() {
            match std::fs::read_dir(&path) {
                Ok(inside) => waiting.extend(inside.filter_map(|e| Some(e.ok()?.path()))),
                Err(_) => files.push(path),
            }
        }
    }
    files.retain(|f| f.is_file());
    files.sort();
    (!files.is_empty()).then_some(files)
}

fn is_etcd(file: &Path) -> bool {
    file.extension().is_some_and(|e| e == "log")
}

fn recorded(who: &str, file: &Path) -> (&'static str, f64) {
    let Ok(report) = format::read_path(file, None, &format::ReadOptions::default()) else {
        return ("unreadable", f64::NAN);
    };
    let texts = file.to_string_lossy().contains("/kv/");
    if !texts {
        let Some(ops) = register(&report.history, is_etcd(file)) else {
            return ("misfit", f64::NAN);
        };
        return decide(who, &ops);
    }
    let keys = texts_by_key(&report.history);
    if who == "ours" {
        let engine = by_name("auto").expect("an engine");
        let (decided, seconds) = timed(|| {
            keys.values()
                .all(|ops| engine.decide(Model::Text, ops, &Limits::default()).is_linearizable() == Some(true))
        });
        return (answer(Some(decided)), seconds);
    }
    let ops: Vec<model::Operation<RawTexts>> = keys
        .iter()
        .enumerate()
        .flat_map(|(key, (_, ops))| ops.iter().map(move |op| (key, op)))
        .map(|(key, op)| model::Operation {
            client_id: None,
            call_time: op.call as i64,
            return_time: op.completion.map_or(i64::MAX, |end| end as i64),
            op: (key, op.action.clone()),
            metadata: None,
        })
        .collect();
    let (result, seconds) = timed(|| porcupine_rs::check_operations_timeout(&ops, TIME_LIMIT));
    (answer(Some(result == CheckResult::Ok)), seconds)
}

fn register(history: &History, refused: bool) -> Option<Vec<Op>> {
    let operations = history.operations().ok()?;
    let mut ids: BTreeMap<Value, u32> = BTreeMap::new();
    let mut id = |value: &Value| {
        if value.is_nil() {
            return 0;
        }
        let next = ids.len() as u32 + 1;
        *ids.entry(value.clone()).or_insert(next)
    };
    let mut ops = Vec::new();
    for op in &operations {
        let pair = || match op.argument().items() {
            Some([old, new]) => Some((old, new)),
            _ => None,
        };
        let action = match (op.f(), op.outcome) {
            (F::Read, Outcome::Ok) => Action::Read(id(op.result()?)),
            (F::Cas, Outcome::Fail) if refused => Action::CasRefused(id(pair()?.0)),
            (F::Read, _) | (_, Outcome::Fail) => continue,
            (F::Write, _) => Action::Write(id(op.argument())),
            (F::Cas, _) => Action::Cas(id(pair()?.0), id(pair()?.1)),
            _ => return None,
        };
        ops.push(Op {
            call: op.invoked_position as u64,
            completion: op.completed_position.map(|p| p as u64),
            action,
        });
    }
    Some(ops)
}

fn texts_by_key(history: &History) -> BTreeMap<Value, Vec<Op>> {
    let mut keys: BTreeMap<Value, Vec<Op>> = BTreeMap::new();
    let text = |value: &Value| -> Arc<str> {
        match value {
            Value::Str(text) => (&**text).into(),
            _ => "".into(),
        }
    };
    for op in history.operations().unwrap_or_default() {
        let action = match op.f() {
            F::Write => Action::Put(text(op.argument())),
            F::Append => Action::AppendText(text(op.argument())),
            _ => match op.result() {
                Some(shown) => Action::Get(text(shown)),
                None => continue,
            },
        };
        let key = op.key().cloned().unwrap_or_default();
        keys.entry(key).or_default().push(Op {
            call: op.invoked_position as u64,
            completion: op.completed_position.map(|p| p as u64),
            action,
        });
    }
    keys
}

#[derive(Clone)]
struct RawTexts;

impl model::Model for RawTexts {
    type State = String;
    type Op = (usize, Action);
    type Metadata = ();

    fn partition_operations(
        history: &[model::Operation<Self>],
    ) -> Vec<Vec<model::Operation<Self>>> {
        let mut keys: Vec<Vec<model::Operation<Self>>> = Vec::new();
        for op in history {
            if keys.len() <= op.op.0 {
                keys.resize_with(op.op.0 + 1, Vec::new);
            }
            keys[op.op.0].push(op.clone());
        }
        keys
    }

    fn init() -> String {
        String::new()
    }

    fn step(state: &String, (_, action): &(usize, Action)) -> (bool, String) {
        match action {
            Action::Put(text) => (true, text.to_string()),
            Action::AppendText(text) => (true, format!("{state}{text}")),
            Action::Get(text) => (**state == **text, state.clone()),
            _ => (false, state.clone()),
        }
    }
}
