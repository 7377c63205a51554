//! Tells cargo that the migrations are part of the source: `sqlx::migrate!` embeds them.

fn main() {
    println!("cargo::rerun-if-changed=../migrations");
    println!("cargo::rerun-if-changed=build.rs");
}
