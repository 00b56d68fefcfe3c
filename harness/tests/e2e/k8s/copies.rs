//! Throw-away copies of a store that runs already: an upgrade is tried on them.

use serde_json::Value;

use super::{Lab, etcd};

/// The arguments of one roll of a copy from the image of the original to this one.
fn roll<'a>(lab: &'a Lab, to: &'a str, faults: &'a str, store: &'a str) -> Vec<&'a str> {
    let on = ["preflight", "--on=k8s", "--namespace", &lab.namespace];
    let versions = ["--from", etcd::IMAGE, "--to", to, "--faults", faults];
    let how = ["--rolls=1", "--seed=1", "-o=json", "--store", store];
    [&on[..], &etcd::FLAGS, &versions, &how].concat()
}

#[test]
fn an_upgrade_is_tried_on_a_copy() {
    let Some(lab) = &etcd::start("copies") else {
        return;
    };
    let before = lab.uids();
    let store = lab.dir.path().join("store");
    let preflight = |to: &str| {
        lab.provide_volumes(3);
        let output = lab.quorate(&roll(lab, to, "kill", store.to_str().unwrap()));
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report)
    };
    let (code, report) = preflight(etcd::NEXT);
    assert_eq!(code, Some(0), "{report}");
    assert_eq!(report["rolls"][0]["changes"], serde_json::json!([6, 6]));
    let (code, report) = preflight(etcd::BROKEN);
    assert_eq!(code, Some(1), "{report}");
    let reasons = report["reasons"].to_string();
    assert!(reasons.contains("n3 did not come up"), "{reasons}");
    // Nothing was done to the original, and nothing is left of the copies.
    assert_eq!(lab.uids(), before);
    let left = ["get", "namespaces", "-l", "quorate.dev/run", "-o", "name"];
    assert_eq!(lab.kubectl(&left), "");
}
