//! Two builds in different folders give the same bytes.

use config::Arch;
use mkinitramfs::{Compress, Recipe, repro, workspace};

#[test]
#[ignore = "builds everything again for both machines, with the standard library: minutes"]
fn two_folders_one_result() {
    for arch in Arch::ALL {
        let scratch = tempfile::tempdir().unwrap();
        let recipe = Recipe {
            arch,
            config_text: "version = 1\norder = [\"a\"]\n[entry.a]\nsource = \"LABEL=boot\"\nkernel = \"Image\"\n"
                .to_owned(),
            modules: None,
            module_names: vec![],
            add: vec![],
            compress: Compress::Zstd,
        };
        repro::check(&workspace(), scratch.path(), &recipe).unwrap();
    }
}
