//! Only watches: a dashboard that was built since the last time has to be embedded anew. Nothing is
//! downloaded or generated here.

fn main() {
    let built = std::path::Path::new("ui/dist").exists();
    println!("cargo::rerun-if-changed={}", if built { "ui/dist" } else { "ui" });
}
