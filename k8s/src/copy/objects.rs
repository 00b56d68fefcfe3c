//! What a copy of a StatefulSet consists of: pure functions from the objects of the original.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

/// Names of objects that a pod's template needs.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Needs {
    pub config_maps: BTreeSet<String>,
    pub secrets: BTreeSet<String>,
}

/// What Kubernetes itself puts into every namespace.
const PUBLISHED: &str = "kube-root-ca.crt";

impl Needs {
    /// Of this pod template.
    pub fn of(template: &Value) -> Self {
        let mut needs = Self::default();
        needs.look(template);
        needs.config_maps.remove(PUBLISHED);
        needs
    }

    fn look(&mut self, value: &Value) {
        match value {
            Value::Array(items) => items.iter().for_each(|item| self.look(item)),
            Value::Object(fields) => {
                for (field, value) in fields {
                    let mut name = |set: fn(&mut Self) -> &mut BTreeSet<String>, key: &str| {
                        if let Some(name) = value[key].as_str() {
                            set(self).insert(name.to_owned());
                        }
                    };
                    match field.as_str() {
                        "configMapKeyRef" | "configMapRef" | "configMap" => {
                            name(|needs| &mut needs.config_maps, "name");
                        }
                        "secretKeyRef" | "secretRef" => name(|needs| &mut needs.secrets, "name"),
                        "secret" => {
                            name(|needs| &mut needs.secrets, "secretName");
                            name(|needs| &mut needs.secrets, "name");
                        }
                        "imagePullSecrets" => {
                            let named = value.as_array().into_iter().flatten();
                            let named = named.filter_map(|it| it["name"].as_str());
                            self.secrets.extend(named.map(str::to_owned));
                        }
                        _ => {}
                    }
                    self.look(value);
                }
            }
            _ => {}
        }
    }
}

/// Why pods of this StatefulSet cannot run a second time beside the first, if so.
pub(super) fn obstacle(spec: &Value) -> Option<String> {
    let pod = &spec["template"]["spec"];
    for shared in ["hostNetwork", "hostPID", "hostIPC"] {
        if pod[shared] == true {
            return Some(format!("its pods have {shared}"));
        }
    }
    let volumes = pod["volumes"].as_array().into_iter().flatten();
    for volume in volumes {
        let name = volume["name"].as_str().unwrap_or_default();
        if volume.get("hostPath").is_some() {
            return Some(format!(
                "volume {name} is a folder of the Kubernetes node, which the original writes, too"
            ));
        }
        if volume.get("persistentVolumeClaim").is_some() {
            return Some(format!(
                "volume {name} is a claim of its own, and not one of the StatefulSet's template"
            ));
        }
    }
    None
}

/// Whether what a node writes outlives its pod.
pub(super) fn keeps_data(spec: &Value) -> bool {
    spec["volumeClaimTemplates"]
        .as_array()
        .is_some_and(|templates| !templates.is_empty())
}

/// Texts of the original's namespace in terms of the copy's.
#[derive(Debug)]
pub(super) struct Renamed<'a> {
    /// The original's namespace.
    pub from: &'a str,
    /// The copy's.
    pub to: &'a str,
    /// The Services that are copied.
    pub services: &'a [String],
}

impl Renamed<'_> {
    /// A text that may name Services with their namespace: `store.shop`, `store-0.store.shop.svc`.
    pub fn text(&self, text: &str) -> String {
        // Also Services that are not copied: better not found than those of the original.
        let mut text = self.replaced(text, "", ".svc");
        for service in self.services {
            text = self.replaced(&text, service, "");
        }
        text
    }

    /// Every `SERVICE.NAMESPACE` that ends there, or every `.NAMESPACE` before this.
    fn replaced(&self, text: &str, service: &str, after: &str) -> String {
        let wanted = format!("{service}.{}{after}", self.from);
        let of_name = |c: char| c.is_ascii_alphanumeric() || c == '-';
        let (mut rest, mut out) = (text, String::new());
        while let Some(at) = rest.find(&wanted) {
            let (before, found) = rest.split_at(at);
            let tail = &found[wanted.len()..];
            let whole =
                !tail.starts_with(of_name) && (service.is_empty() || !before.ends_with(of_name));
            out.push_str(before);
            if whole {
                for part in [service, ".", self.to, after] {
                    out.push_str(part);
                }
            } else {
                out.push_str(&wanted);
            }
            rest = tail;
        }
        out + rest
    }

    /// The same with every text in a value.
    pub fn value(&self, value: &Value) -> Value {
        match value {
            Value::String(text) => self.text(text).into(),
            Value::Array(items) => items.iter().map(|item| self.value(item)).collect(),
            Value::Object(fields) => {
                let fields = fields.iter();
                Value::Object(fields.map(|(k, v)| (k.clone(), self.value(v))).collect())
            }
            other => other.clone(),
        }
    }
}

/// An object of another namespace as it is made anew: what the server has written is left out.
pub(super) fn fresh(api: &str, kind: &str, original: &Value) -> Value {
    let mut metadata = Map::new();
    let found = &original["metadata"];
    for field in ["name", "labels"] {
        if let Some(value) = found.get(field) {
            metadata.insert(field.to_owned(), value.clone());
        }
    }
    if let Some(annotations) = found["annotations"].as_object() {
        let kept = annotations.iter().filter(|(name, _)| {
            !name.starts_with("kubectl.kubernetes.io/") && !name.starts_with("quorate.dev/")
        });
        let kept: Map<_, _> = kept.map(|(k, v)| (k.clone(), v.clone())).collect();
        metadata.insert("annotations".to_owned(), kept.into());
    }
    let mut copy = json!({"apiVersion": api, "kind": kind, "metadata": metadata});
    let skipped = ["apiVersion", "kind", "metadata", "status"];
    for (field, value) in original.as_object().into_iter().flatten() {
        if !skipped.contains(&field.as_str()) {
            copy[field] = value.clone();
        }
    }
    copy
}

/// A Service within the cluster alone, with addresses of its own.
pub(super) fn service(original: &Value) -> Value {
    let mut copy = fresh("v1", "Service", original);
    let headless = original["spec"]["clusterIP"] == "None";
    if let Some(spec) = copy["spec"].as_object_mut() {
        for field in [
            "clusterIP",
            "clusterIPs",
            "ipFamilies",
            "ipFamilyPolicy",
            "externalIPs",
            "externalTrafficPolicy",
            "internalTrafficPolicy",
            "healthCheckNodePort",
            "loadBalancerIP",
            "loadBalancerClass",
            "loadBalancerSourceRanges",
            "allocateLoadBalancerNodePorts",
        ] {
            spec.remove(field);
        }
        if headless {
            spec.insert("clusterIP".to_owned(), "None".into());
        }
        spec.insert("type".to_owned(), "ClusterIP".into());
        for port in spec["ports"].as_array_mut().into_iter().flatten() {
            if let Some(port) = port.as_object_mut() {
                port.remove("nodePort");
            }
        }
    }
    copy
}

/// Whether a Service leads to pods of this template, or names them.
pub(super) fn serves(service: &Value, set: &Value) -> bool {
    if service["metadata"]["name"] == set["spec"]["serviceName"] {
        return true;
    }
    let labels = &set["spec"]["template"]["metadata"]["labels"];
    let selector = service["spec"]["selector"].as_object();
    selector.is_some_and(|selector| {
        !selector.is_empty() && selector.iter().all(|(key, value)| labels[key] == *value)
    })
}

/// Whether a selector of labels means the pods of this template.
pub(super) fn selects(selector: &Value, template: &Value) -> bool {
    let labels = &template["metadata"]["labels"];
    let Some(selector) = selector.as_object() else {
        return false;
    };
    let equal = selector.get("matchLabels").and_then(Value::as_object);
    let mut equal = equal.into_iter().flatten();
    let demands = selector.get("matchExpressions").and_then(Value::as_array);
    let mut demands = demands.into_iter().flatten();
    equal.all(|(key, value)| labels[key] == *value)
        && demands.all(|demand| {
            let value = demand["key"].as_str().and_then(|key| labels.get(key));
            let named = demand["values"].as_array();
            let named = value.is_some_and(|value| named.is_some_and(|all| all.contains(value)));
            match demand["operator"].as_str() {
                Some("In") => named,
                Some("NotIn") => !named,
                Some("Exists") => value.is_some(),
                Some("DoesNotExist") => value.is_none(),
                _ => false,
            }
        })
}

/// The same policy, with the copy's namespace where it names the original's.
pub(super) fn network_policy(original: &Value, from: &str, to: &str) -> Value {
    let mut copy = fresh("networking.k8s.io/v1", "NetworkPolicy", original);
    for (rules, peers) in [("ingress", "from"), ("egress", "to")] {
        let rules = copy["spec"].get_mut(rules).and_then(Value::as_array_mut);
        for rule in rules.into_iter().flatten() {
            let peers = rule.get_mut(peers).and_then(Value::as_array_mut);
            for peer in peers.into_iter().flatten() {
                if let Some(selector) = peer.get_mut("namespaceSelector") {
                    rename(selector, from, to);
                }
            }
        }
    }
    without_nulls(copy)
}

/// Lets a selector of namespaces that names one of them name another, by the label that Kubernetes
/// puts onto every namespace.
fn rename(selector: &mut Value, from: &str, to: &str) {
    if let Some(named) = selector.pointer_mut("/matchLabels/kubernetes.io~1metadata.name")
        && *named == from
    {
        *named = to.into();
    }
    let demands = selector.get_mut("matchExpressions");
    let demands = demands.and_then(Value::as_array_mut).into_iter().flatten();
    for demand in demands.filter(|demand| demand["key"] == "kubernetes.io/metadata.name") {
        let values = demand.get_mut("values").and_then(Value::as_array_mut);
        for value in values.into_iter().flatten().filter(|value| **value == from) {
            *value = to.into();
        }
    }
}

/// The StatefulSet itself, with this image in this container (the first, if none is named).
pub(super) fn stateful_set(
    original: &Value,
    renamed: &Renamed<'_>,
    image: Option<&str>,
    container: Option<&str>,
) -> Value {
    let mut copy = fresh("apps/v1", "StatefulSet", original);
    let spec = &mut copy["spec"];
    spec["template"]["spec"] = renamed.value(&spec["template"]["spec"]);
    spec["template"]["metadata"]["creationTimestamp"].take();
    spec["updateStrategy"] = json!({"type": "RollingUpdate", "rollingUpdate": {"partition": 0}});
    let claims = spec["volumeClaimTemplates"].as_array_mut();
    for claim in claims.into_iter().flatten() {
        let bare = fresh("v1", "PersistentVolumeClaim", claim);
        *claim = bare;
    }
    if let Some(image) = image {
        let containers = spec["template"]["spec"]["containers"].as_array_mut();
        let mut containers = containers.into_iter().flatten();
        let named = |it: &&mut Value| container.is_none_or(|name| it["name"] == name);
        if let Some(it) = containers.find(named) {
            it["image"] = image.into();
        }
    }
    without_nulls(copy)
}

/// Server-side apply takes a null for a wish.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let kept = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(kept.map(|(k, v)| (k, without_nulls(v))).collect())
        }
        Value::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// Whether a binding of a role is about this account.
pub(super) fn binds(binding: &Value, account: &str) -> bool {
    let subjects = binding["subjects"].as_array().into_iter().flatten();
    let mut subjects = subjects.filter(|subject| subject["kind"] == "ServiceAccount");
    subjects.any(|subject| subject["name"] == account)
}

/// The same binding for the account of the same name in another namespace.
pub(super) fn binding(original: &Value, account: &str, namespace: &str) -> Value {
    let mut copy = fresh("rbac.authorization.k8s.io/v1", "RoleBinding", original);
    copy["subjects"] = json!([{"kind": "ServiceAccount", "name": account, "namespace": namespace}]);
    copy
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set() -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "StatefulSet",
            "metadata": {
                "name": "db", "uid": "u", "resourceVersion": "7", "managedFields": [],
                "annotations": {"kubectl.kubernetes.io/last-applied-configuration": "{}", "team": "a"},
            },
            "spec": {
                "serviceName": "db", "replicas": 3,
                "template": {
                    "metadata": {"labels": {"app": "db", "tier": "x"}, "creationTimestamp": null},
                    "spec": {
                        "serviceAccountName": "db",
                        "imagePullSecrets": [{"name": "registry"}],
                        "containers": [
                            {"name": "db", "image": "db:1",
                             "args": ["--peers=db-0.db.shop.svc:1,db-1.db.shop:1", "--in=/shop.svcs"],
                             "env": [{"name": "P", "valueFrom": {"secretKeyRef": {"name": "pass", "key": "p"}}}],
                             "envFrom": [{"configMapRef": {"name": "env"}}]},
                            {"name": "side", "image": "side:1"},
                        ],
                        "volumes": [
                            {"name": "c", "configMap": {"name": "conf"}},
                            {"name": "t", "secret": {"secretName": "tls"}},
                            {"name": "p", "projected": {"sources": [
                                {"secret": {"name": "more"}}, {"configMap": {"name": "kube-root-ca.crt"}}]}},
                        ],
                    },
                },
                "volumeClaimTemplates": [{
                    "metadata": {"name": "data", "creationTimestamp": null},
                    "spec": {"resources": {}}, "status": {"phase": "Pending"}}],
            },
            "status": {"replicas": 3},
        })
    }

    #[test]
    fn what_the_pods_mount_or_read_is_found() {
        let needs = Needs::of(&set()["spec"]["template"]);
        let names = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>().join(" ");
        assert_eq!(names(&needs.config_maps), "conf env");
        assert_eq!(names(&needs.secrets), "more pass registry tls");
    }

    #[test]
    fn names_lead_to_the_copy_and_never_to_the_original() {
        let services = ["db".to_owned()];
        let renamed = Renamed {
            from: "shop",
            to: "shop-copy",
            services: &services,
        };
        for (text, wanted) in [
            (
                "db-0.db.shop.svc.cluster.local",
                "db-0.db.shop-copy.svc.cluster.local",
            ),
            (
                "http://db-0.db.shop:2380,x",
                "http://db-0.db.shop-copy:2380,x",
            ),
            ("consul.shop.svc", "consul.shop-copy.svc"),
            ("db-0.db:2380", "db-0.db:2380"),
            ("mydb.shop", "mydb.shop"),
            ("db.shop-2", "db.shop-2"),
            ("db.shopping db.shop", "db.shopping db.shop-copy"),
            ("/etc/x.shop.svcs", "/etc/x.shop.svcs"),
        ] {
            assert_eq!(renamed.text(text), wanted);
        }
        let copy = stateful_set(&set(), &renamed, Some("db:2"), None);
        let containers = &copy["spec"]["template"]["spec"]["containers"];
        assert_eq!(
            containers[0]["args"],
            json!([
                "--peers=db-0.db.shop-copy.svc:1,db-1.db.shop-copy:1",
                "--in=/shop.svcs"
            ])
        );
        assert_eq!(
            (&containers[0]["image"], &containers[1]["image"]),
            (&json!("db:2"), &json!("side:1"))
        );
        assert_eq!(
            copy["metadata"],
            json!({"name": "db", "annotations": {"team": "a"}})
        );
        assert!(copy.get("status").is_none());
        let claim = &copy["spec"]["volumeClaimTemplates"][0];
        assert!(claim.get("status").is_none() && claim["metadata"] == json!({"name": "data"}));
        assert!(keeps_data(&copy["spec"]));
        let other = stateful_set(&set(), &renamed, Some("side:2"), Some("side"));
        let containers = &other["spec"]["template"]["spec"]["containers"];
        assert_eq!(
            (&containers[0]["image"], &containers[1]["image"]),
            (&json!("db:1"), &json!("side:2"))
        );
    }

    #[test]
    fn a_service_keeps_no_address_of_the_original() {
        let original = json!({
            "metadata": {"name": "db", "resourceVersion": "1"},
            "spec": {
                "type": "NodePort", "clusterIP": "10.96.0.7", "clusterIPs": ["10.96.0.7"],
                "selector": {"app": "db"}, "ports": [{"port": 1, "nodePort": 30001}],
            },
            "status": {"loadBalancer": {}},
        });
        let copy = service(&original);
        assert_eq!(
            copy["spec"],
            json!({"type": "ClusterIP", "selector": {"app": "db"}, "ports": [{"port": 1}]})
        );
        let mut headless = original.clone();
        headless["spec"]["clusterIP"] = "None".into();
        assert_eq!(service(&headless)["spec"]["clusterIP"], "None");
        let named = |name: &str, selector: Value| {
            let service = json!({"metadata": {"name": name}, "spec": {"selector": selector}});
            serves(&service, &set())
        };
        assert!(named("x", json!({"app": "db"})));
        assert!(named("db", Value::Null));
        assert!(!named("x", json!({"app": "db", "role": "leader"})));
        assert!(!named("x", json!({})));
    }

    #[test]
    fn selectors_mean_the_pods_of_a_template_by_its_labels() {
        let set = set();
        let template = &set["spec"]["template"];
        let demand = |key: &str, operator: &str, values: Value| json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]});
        for (selector, wanted) in [
            (json!({}), true),
            (Value::Null, false),
            (json!({"matchLabels": {"app": "db"}}), true),
            (
                json!({"matchLabels": {"app": "db", "role": "leader"}}),
                false,
            ),
            (demand("app", "In", json!(["web", "db"])), true),
            (demand("app", "In", json!(["web"])), false),
            (demand("app", "NotIn", json!(["web"])), true),
            (demand("app", "NotIn", json!(["db"])), false),
            (demand("role", "NotIn", json!(["leader"])), true),
            (demand("tier", "Exists", Value::Null), true),
            (demand("role", "Exists", Value::Null), false),
            (demand("role", "DoesNotExist", Value::Null), true),
            (demand("tier", "DoesNotExist", Value::Null), false),
        ] {
            assert_eq!(selects(&selector, template), wanted, "{selector}");
        }
    }

    #[test]
    fn a_network_policy_lets_the_copys_namespace_in_and_not_the_originals() {
        let by_name = |name: &str| {
            json!([
                {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}},
                {"namespaceSelector": {"matchExpressions": [{
                    "key": "kubernetes.io/metadata.name", "operator": "In",
                    "values": [name, "monitoring"],
                }]}},
                {"podSelector": {"matchLabels": {"kubernetes.io/metadata.name": "shop"}}},
                {"ipBlock": {"cidr": "10.0.0.0/8"}},
            ])
        };
        let spec = |name: &str| {
            json!({
                "podSelector": {"matchLabels": {"app": "db"}},
                "policyTypes": ["Ingress", "Egress"],
                "ingress": [{"from": by_name(name), "ports": [{"port": 1}]}],
                "egress": [{"to": by_name(name)}],
            })
        };
        let original = json!({"metadata": {"name": "p", "uid": "u"}, "spec": spec("shop")});
        let copy = network_policy(&original, "shop", "shop-copy");
        assert_eq!(copy["spec"], spec("shop-copy"));
        assert_eq!(copy["metadata"], json!({"name": "p"}));
        let closed = json!({"metadata": {"name": "p"}, "spec": {"podSelector": {}}});
        assert_eq!(
            network_policy(&closed, "shop", "shop-copy")["spec"],
            closed["spec"]
        );
    }

    #[test]
    fn what_would_be_shared_with_the_original_is_refused() {
        assert_eq!(obstacle(&set()["spec"]), None);
        let with = |volume: Value| {
            let mut set = set();
            set["spec"]["template"]["spec"]["volumes"] = json!([volume]);
            obstacle(&set["spec"]).unwrap()
        };
        assert!(with(json!({"name": "d", "hostPath": {"path": "/d"}})).contains("volume d"));
        assert!(
            with(json!({"name": "d", "persistentVolumeClaim": {}})).contains("claim of its own")
        );
        let mut host = set();
        host["spec"]["template"]["spec"]["hostNetwork"] = true.into();
        assert!(obstacle(&host["spec"]).unwrap().contains("hostNetwork"));
    }

    #[test]
    fn only_bindings_of_the_account_are_taken_along() {
        let original = json!({
            "metadata": {"name": "b"},
            "roleRef": {"kind": "Role", "name": "r"},
            "subjects": [{"kind": "User", "name": "db"}, {"kind": "ServiceAccount", "name": "db", "namespace": "shop"}],
        });
        assert!(binds(&original, "db"));
        assert!(!binds(&original, "other"));
        let copy = binding(&original, "db", "copy");
        assert_eq!(
            copy["subjects"],
            json!([{"kind": "ServiceAccount", "name": "db", "namespace": "copy"}])
        );
    }
}
