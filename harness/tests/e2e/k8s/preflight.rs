//! The check before an upgrade: pods are rolled from one version to the other and back.

use serde_json::Value;

use super::Lab;

#[test]
fn pods_are_rolled_and_both_answers_are_given() {
    let Some(lab) = Lab::find("preflight") else {
        return;
    };
    let namespace = lab.namespace.as_str();
    let store = lab.dir.path().join("store");
    lab.provide_volumes(6);
    let object = format!(
        "apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}, labels: \
         {{quorate.dev/faults: allowed}}}}\n"
    );
    lab.apply(&object);
    let preflight = |stream: &str| {
        let file = lab.dir.path().join(format!("{stream}.yaml"));
        let text = format!(
            "name: {stream}\nnodes: 3\ntarget: {{ack: semi-sync(1), failover_requires_majority: true, \
             fencing: epoch, stream: {stream}}}\n"
        );
        std::fs::write(&file, text).unwrap();
        let versions = ["2", "3"].map(|format| format!("{}@{format}", lab.image));
        let arguments = [
            "preflight",
            file.to_str().unwrap(),
            "--on=k8s",
            "--namespace",
            namespace,
            "--from",
            &versions[0],
            "--to",
            &versions[1],
            "--faults=none",
            "--rolls=1",
            "--seed=1",
            "-o=json",
            "--store",
            store.to_str().unwrap(),
        ];
        let output = lab.quorate(&[&arguments[..], lab.storage].concat());
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    };

    let (code, report) = preflight("logical");
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["rolls"][0]["changes"], serde_json::json!([6, 6]));

    let (code, report) = preflight("wal");
    assert_eq!(code, Some(1), "{report}");
    let reasons = report["reasons"].to_string();
    assert!(
        reasons.contains("refuses") || reasons.contains("stopped"),
        "{reasons}"
    );
}
