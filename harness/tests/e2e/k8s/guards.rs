//! Guard rails around Kubernetes nodes: those of the control plane, and those of somebody else.

use super::Lab;
use super::under_way::verdict;

/// A node that is changed for the test; dropped, it is as before.
struct Changed<'a> {
    lab: &'a Lab,
    back: Vec<String>,
}

impl<'a> Changed<'a> {
    fn by(lab: &'a Lab, change: &[&str], back: &[&str]) -> Self {
        lab.kubectl(change);
        let back = back.iter().map(|word| (*word).to_owned()).collect();
        Self { lab, back }
    }
}

impl Drop for Changed<'_> {
    fn drop(&mut self) {
        let done = self.lab.kubectl_command().args(&self.back).status();
        eprintln!("{:?}: {done:?}", self.back);
    }
}

#[test]
fn nodes_of_the_control_plane_and_of_others_are_not_drained() {
    let Some(lab) = Lab::find("guards") else {
        return;
    };
    lab.up();
    let file = &lab.on_that("8s", "{at: 1s, for: 1s, fault: drain, target: n2}");
    let host = lab.get("pod/quorate-1", "jsonpath={.spec.nodeName}");
    let before = lab.uids();
    let unschedulable = || {
        let of = ["get", "node", &host, "-o", "jsonpath={.spec.unschedulable}"];
        lab.kubectl(&of)
    };
    let refused = |name: &str, why: &str| {
        let store = lab.dir.path().join(name);
        let store = store.to_str().unwrap();
        let run = lab.quorate(&["test", file, "--store", store]);
        assert_eq!(run.status.code(), Some(2));
        let verdict = verdict(std::path::Path::new(store)).to_string();
        assert!(verdict.contains(why), "{verdict}");
        assert_eq!(lab.uids(), before);
    };

    {
        let role = "node-role.kubernetes.io/control-plane";
        let (with, without) = (format!("{role}="), format!("{role}-"));
        let _label = Changed::by(
            &lab,
            &["label", "node", &host, &with],
            &["label", "node", &host, &without],
        );
        let dry = lab.quorate(&["test", file, "--dry-run"]);
        let said = String::from_utf8_lossy(&dry.stdout).into_owned();
        assert!(
            said.contains(&format!("{host} (control plane, never drained)")),
            "{said}"
        );
        assert!(
            said.contains(&format!("refused, {host} hosts the control plane")),
            "{said}"
        );
        refused(
            "control-plane",
            "hosts the control plane, which is not drained",
        );
        assert_eq!(unschedulable(), "");
    }
    {
        let _cordon = Changed::by(&lab, &["cordon", &host], &["uncordon", &host]);
        refused("cordoned", "is cordoned already, and not by this run");
        // It is left as it was found.
        assert_eq!(unschedulable(), "true");
        lab.clean(&[]);
        assert_eq!(unschedulable(), "true");
    }
}
