//! Guard rails around Kubernetes nodes: those of the control plane, and those of somebody else.

use super::Lab;

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
    let namespace = lab.namespace.as_str();
    let up = [
        "k8s",
        "up",
        "--namespace",
        namespace,
        "--mode",
        "raft",
        "--storage",
        "empty-dir",
    ];
    let up = lab.quorate(&[&up[..], &["--image", &lab.image]].concat());
    assert_eq!(up.status.code(), Some(0));
    let file = lab.dir.path().join("drain.yaml");
    let text = format!(
        "substrate: k8s\ntarget: {{mode: raft}}\nnodes: 3\nseed: 9\nlimits: {{time: 8s}}\n\
         kubernetes:\n  namespace: {namespace}\n  storage: empty-dir\n  statefulset: \
         {{selector: app.kubernetes.io/instance=quorate, port: 7100}}\n\
         faults:\n  schedule:\n    - {{at: 1s, for: 1s, fault: drain, target: n2}}\n"
    );
    std::fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let of = ["get", "pod", "quorate-1", "-n", namespace, "-o"];
    let host = lab.kubectl(&[&of[..], &["jsonpath={.spec.nodeName}"]].concat());
    let uids = || {
        let of = ["get", "pods", "-n", namespace, "-o"];
        lab.kubectl(&[&of[..], &["jsonpath={.items[*].metadata.uid}"]].concat())
    };
    let before = uids();
    let unschedulable = || {
        let of = ["get", "node", &host, "-o", "jsonpath={.spec.unschedulable}"];
        lab.kubectl(&of)
    };
    let refused = |name: &str, why: &str| {
        let store = lab.dir.path().join(name);
        let store = store.to_str().unwrap();
        let run = lab.quorate(&["test", file, "--store", store]);
        assert_eq!(run.status.code(), Some(2));
        let verdict = crate::run_dir(std::path::Path::new(store)).join("verdict.json");
        let verdict = std::fs::read_to_string(verdict).unwrap();
        assert!(verdict.contains(why), "{verdict}");
        assert_eq!(uids(), before);
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
        let clean = lab.quorate(&["clean", "--on", "k8s", "--namespace", namespace]);
        assert_eq!(clean.status.code(), Some(0));
        assert_eq!(unschedulable(), "true");
    }
}
