//! What the documents say is true: examples pass `check-config`, every anomaly is explained.

use assert_cmd::Command;
use housekeeper::cli::render::remedy;
use housekeeper::model::anomaly::AnomalyKind;
use std::path::{Path, PathBuf};

fn document(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

/// The blocks of a kind in a Markdown text.
fn blocks<'t>(text: &'t str, kind: &str) -> Vec<&'t str> {
    let fence = format!("```{kind}\n");
    let after = text.split(fence.as_str()).skip(1);
    after
        .map(|rest| rest.split("```").next().unwrap_or_default())
        .collect()
}

fn check(toml: &str) {
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("housekeeper.toml");
    std::fs::write(&file, toml).expect("a file");
    // Nothing of whoever runs the tests has a say.
    Command::new(env!("CARGO_BIN_EXE_housekeeper"))
        .env_clear()
        .args(["check-config", "--config"])
        .arg(&file)
        .assert()
        .success();
}

#[test]
fn the_configurations_of_the_readme_are_good() {
    let readme = document("README.md");
    let examples = blocks(&readme, "toml");
    assert!(!examples.is_empty());
    examples.into_iter().for_each(check);
}

#[test]
fn the_configuration_to_deploy_is_good() {
    check(&document("docs/deploy/housekeeper.toml"));
}

#[test]
fn every_anomaly_is_explained() {
    let text = document("docs/ANOMALIES.md");
    for kind in AnomalyKind::ALL {
        assert!(text.contains(&format!("| `{}` |", kind.name())), "{kind}");
        let remedy = remedy(kind.name()).unwrap_or_else(|| panic!("no remedy for {kind}"));
        assert!(
            remedy.len() > 10 && !remedy.contains('\n'),
            "{kind}: {remedy}"
        );
    }
}

/// Tests that the page on reliability names by module and function.
#[test]
fn every_defect_has_the_test_that_is_named() {
    let text = document("docs/RELIABILITY.md");
    let named = text.split('`').filter_map(|word| word.split_once("::"));
    let named: Vec<_> = named
        .filter(|(module, _)| ["real_bugs", "odd_inputs", "catalogue_owner"].contains(module))
        .collect();
    assert!(named.len() > 40, "{}", named.len());
    for (module, name) in named {
        let tests = document(&format!("tests/it/{module}.rs"));
        let test = format!("#[test]\nfn {name}(");
        let expected = format!(
            "#[test]\n#[expect(clippy::print_stdout, reason = \"the figures are what is asked for\")]\nfn {name}("
        );
        assert!(
            tests.contains(&test) || tests.contains(&expected),
            "{module}::{name}"
        );
    }
}

#[test]
fn every_link_of_the_documents_leads_somewhere() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut documents = vec![root.join("README.md")];
    for dir in ["docs", "docs/decisions"] {
        let entries = std::fs::read_dir(root.join(dir)).expect("a directory");
        documents.extend(entries.map(|entry| entry.expect("an entry").path()));
    }
    documents.retain(|path| path.extension().is_some_and(|kind| kind == "md"));
    for path in documents {
        let text = std::fs::read_to_string(&path).expect("a document");
        for rest in text.split("](").skip(1) {
            let target = rest.split(')').next().unwrap_or_default();
            let target = target.split('#').next().unwrap_or_default();
            if target.is_empty() || target.contains("://") {
                continue;
            }
            let at: PathBuf = path.parent().expect("it lies in a directory").join(target);
            assert!(at.exists(), "{} links {target}", path.display());
        }
    }
}
