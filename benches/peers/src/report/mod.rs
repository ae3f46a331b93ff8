//! The tables: what they hold, as text for the terminal, and as a section of a document.

// `xtask`, which writes into the same document, has it.
#[path = "../../../../xtask/src/document.rs"]
mod document;
pub mod file;
pub mod markdown;
pub mod table;
pub mod text;
pub mod versions;
