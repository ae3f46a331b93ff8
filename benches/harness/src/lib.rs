//! Paired, interleaved measurements of terrace beside the raw clients and engines.
