//! One YAML mapping laid over another.

use serde_yaml::Value;

/// The first text with what the second says in place: mappings are merged, all else is replaced.
///
/// # Errors
/// Why one of them is not YAML.
pub fn overlay(below: &str, above: &str) -> Result<String, String> {
    let parse = |text: &str| serde_yaml::from_str::<Value>(text).map_err(|e| e.to_string());
    let mut merged = parse(below)?;
    lay(&mut merged, parse(above)?);
    serde_yaml::to_string(&merged).map_err(|e| e.to_string())
}

fn lay(below: &mut Value, above: Value) {
    match (below, above) {
        (_, Value::Null) => {}
        (Value::Mapping(below), Value::Mapping(above)) => {
            for (key, value) in above {
                match below.get_mut(&key) {
                    Some(there) => lay(there, value),
                    None => drop(below.insert(key, value)),
                }
            }
        }
        (below, above) => *below = above,
    }
}

#[cfg(test)]
mod tests {
    use super::overlay;

    #[test]
    fn mappings_merge_and_the_rest_is_replaced() {
        let below = "a: {x: 1, y: [1, 2]}\nb: 3\n";
        let above = "a: {y: [9], z: 4}\nc: 5\n";
        let text = overlay(below, above).unwrap();
        let value: serde_json::Value = serde_yaml::from_str(&text).unwrap();
        let expected = serde_json::json!({"a": {"x": 1, "y": [9], "z": 4}, "b": 3, "c": 5});
        assert_eq!(value, expected);
        assert_eq!(overlay("a: 1", "").unwrap().trim(), "a: 1");
        assert!(overlay("a: [", "").is_err());
    }
}
