//! The tables: what they hold, as text for the terminal, and as a section of a document.

mod document;
pub mod file;
pub mod markdown;
pub mod table;
pub mod text;
pub mod versions;
