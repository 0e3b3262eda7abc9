use super::*;

#[test]
fn calm() {
    let report = run(Scenario::calm(4), 1);
    println!("{report:#?}");
    assert_eq!(report.violation, None);
}
