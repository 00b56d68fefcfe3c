//! Finds the line of a field in a YAML text, for error messages.

use saphyr::{LoadableYamlNode, MarkedYaml};

/// The line (from 1) of the value at a path like `faults.schedule[2].target`; of the deepest part
/// of the path that exists where the rest does not. `None` if not even the first part does.
pub fn line_of(text: &str, path: &str) -> Option<usize> {
    let documents = MarkedYaml::load_from_str(text).ok()?;
    let mut node = documents.first()?;
    let mut line = None;
    for part in path.split(['.', '[']).filter(|part| !part.is_empty()) {
        let next = match part.strip_suffix(']') {
            Some(index) => node.data.as_sequence_get(index.parse().ok()?),
            None => node.data.as_mapping_get(part),
        };
        let Some(next) = next else { break };
        node = next;
        line = Some(node.span.start.line());
    }
    line
}

/// Whether a YAML text says anything at a path like `clients.policy`.
pub fn says(text: &str, path: &str) -> bool {
    let documents = MarkedYaml::load_from_str(text).unwrap_or_default();
    let mut node = documents.first();
    for part in path.split('.') {
        node = node.and_then(|node| node.data.as_mapping_get(part));
    }
    node.is_some()
}

#[cfg(test)]
mod tests {
    use super::{line_of, says};

    #[test]
    fn a_field_is_said_or_not() {
        let text = "clients: {rate: 5}\nworkload: set\n";
        assert!(says(text, "workload") && says(text, "clients.rate"));
        assert!(!says(text, "clients.policy") && !says(text, "nothing") && !says("", "a"));
    }

    #[test]
    fn finds_fields_in_block_and_flow_style() {
        let text = "name: x\ntarget:\n  mode: raft\n  ack: async\nlist:\n  - {at: 1s}\n  - {at: 2s,\n     for: 3s}\n";
        assert_eq!(line_of(text, "target.ack"), Some(4));
        assert_eq!(line_of(text, "list[1].for"), Some(8));
        assert_eq!(line_of(text, "list[1].target"), Some(7));
        assert_eq!(line_of("- a: 1\n- a: 2\n", "[1].a"), Some(2));
        assert_eq!(line_of(text, "nothing"), None);
    }
}
