use super::*;
use crate::report::fixture;
use crate::report::html::evidence::Evidence;

#[test]
fn the_picture_shows_operations_faults_and_breaks() {
    let history = fixture::history();
    let summary = fixture::summary();
    let mut evidence = Evidence::choose(&summary);
    history.events.iter().for_each(|e| evidence.record(e));
    let anomaly = evidence.groups[0].shown[0];
    let (scene, _) = evidence.scene(anomaly);
    let text = label_of(scene.core[0]);
    assert!(
        text.starts_with("append k") && text.ends_with("→ n1 e1"),
        "{text}"
    );
    let read = label_of(scene.core[1]);
    assert!(read.contains("more, ") && read.ends_with("n3 e3"), "{read}");
    assert!(!scene.context.is_empty());
    let svg = draw(&scene).into_string();
    for part in [
        "isolate leader n1",
        "⋯",
        "class=\"edge missed\"",
        "class=\"context\"",
    ] {
        assert!(svg.contains(part), "{part} is missing in {svg}");
    }
    assert!(!svg.contains("NaN"), "{svg}");
}
