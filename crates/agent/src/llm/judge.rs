//! Says whether an answer may be kept, and reads its model and usage.

use std::{collections::BTreeMap, fmt};

use bytes::Bytes;
use serde_json::Value;

use super::{answer::Usage, events, request::Endpoint};

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotKept {
    /// The status is not one of success.
    Status,
    /// The answer ended early, or without its end mark.
    Cut,
    /// The answer is not in the form of its endpoint.
    Form,
    /// The answer is, or holds, an error.
    Failed,
    /// A filter of the provider ended the answer, or the model refused it.
    Filtered,
    /// The answer says nothing.
    Empty,
    /// The arguments of a tool call are not JSON.
    ToolArguments,
    /// The answer is larger than the cache takes.
    TooLarge,
}

impl fmt::Display for NotKept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Status => "the status is not one of success",
            Self::Cut => "the answer ended without its end mark",
            Self::Form => "the answer is not in the form of its endpoint",
            Self::Failed => "the answer holds an error",
            Self::Filtered => "the answer was filtered",
            Self::Empty => "the answer is empty",
            Self::ToolArguments => "the arguments of a tool call are not JSON",
            Self::TooLarge => "the answer is larger than the cache takes",
        })
    }
}

impl std::error::Error for NotKept {}

/// What is known of an answer that ended.
#[derive(Debug, Default)]
pub(crate) struct Judgement {
    pub(crate) not_kept: Option<NotKept>,
    pub(crate) model: Option<String>,
    pub(crate) usage: Option<Usage>,
}

/// What an answer says, whatever its form.
#[derive(Default)]
struct Content {
    ended: bool,
    failed: bool,
    filtered: bool,
    says_something: bool,
    tool_arguments: BTreeMap<(u64, u64), String>,
    model: Option<String>,
    usage: Option<Usage>,
}

/// Judges an answer in one piece.
pub(crate) fn judge_whole(endpoint: Endpoint, body: &[u8]) -> Judgement {
    let Ok(json) = serde_json::from_slice::<Value>(body) else {
        return Judgement { not_kept: Some(NotKept::Form), ..Judgement::default() };
    };
    let mut content = Content::default();
    content.read_common(&json);
    match endpoint {
        Endpoint::Chat | Endpoint::Completions => content.read_choices(&json, "message"),
        Endpoint::Messages => content.read_message(&json),
        Endpoint::Responses => content.read_response(&json),
        Endpoint::Embeddings => {
            content.says_something = json["data"].as_array().is_some_and(|data| !data.is_empty());
            content.ended = content.says_something;
        }
        Endpoint::Other => {}
    }
    content.judge()
}

/// Judges a stream of events.
pub(crate) fn judge_events<'a>(endpoint: Endpoint, events: impl Iterator<Item = &'a Bytes>) -> Judgement {
    let mut content = Content::default();
    let mut done_mark = false;
    for event in events {
        // What follows the end mark is no part of the answer.
        if done_mark || events::data_of(event).is_none() {
            continue;
        }
        let Some(json) = events::json_of(event) else {
            done_mark = events::data_of(event).is_some_and(|data| data.trim() == "[DONE]");
            content.failed |= !done_mark;
            continue;
        };
        content.read_common(&json);
        match endpoint {
            Endpoint::Chat | Endpoint::Completions => content.read_choices(&json, "delta"),
            Endpoint::Messages => content.read_message_event(&json),
            Endpoint::Responses => content.read_response_event(&json),
            Endpoint::Embeddings | Endpoint::Other => {}
        }
    }
    if matches!(endpoint, Endpoint::Chat | Endpoint::Completions) {
        content.ended = done_mark;
    }
    content.judge()
}

impl Content {
    fn judge(self) -> Judgement {
        let is_json = |text: &String| text.is_empty() || serde_json::from_str::<Value>(text).is_ok();
        let not_kept = if self.failed {
            Some(NotKept::Failed)
        } else if self.filtered {
            Some(NotKept::Filtered)
        } else if !self.ended {
            Some(NotKept::Cut)
        } else if !self.tool_arguments.values().all(is_json) {
            Some(NotKept::ToolArguments)
        } else if !self.says_something && self.tool_arguments.is_empty() {
            Some(NotKept::Empty)
        } else {
            None
        };
        Judgement { not_kept, model: self.model, usage: self.usage }
    }

    /// What all forms have in common: an error, the model, the usage.
    fn read_common(&mut self, json: &Value) {
        self.failed |= json.get("error").is_some_and(|error| !error.is_null()) || json["type"] == "error";
        for part in [json, &json["message"], &json["response"]] {
            if let Some(model) = part.get("model").and_then(Value::as_str) {
                self.model = Some(model.to_owned());
            }
            if let Some(usage) = part.get("usage").filter(|usage| usage.is_object()) {
                let usage = usage_of(usage, self.usage);
                self.usage = Some(usage);
            }
        }
    }

    /// OpenAI's choices: whole ones in `message`, pieces in `delta`, text in `text`.
    fn read_choices(&mut self, json: &Value, part: &str) {
        for choice in json["choices"].as_array().into_iter().flatten() {
            let index = choice["index"].as_u64().unwrap_or(0);
            if let Some(reason) = choice["finish_reason"].as_str() {
                self.filtered |= reason == "content_filter";
                self.ended = true;
            }
            let message = &choice[part];
            self.filtered |= is_text(&message["refusal"]);
            let texts = ["content", "reasoning_content", "reasoning", "audio"];
            self.says_something |= is_text(&choice["text"]) || texts.iter().any(|name| has(&message[*name]));
            for (at, call) in message["tool_calls"].as_array().into_iter().flatten().enumerate() {
                let at = call["index"].as_u64().unwrap_or(at as u64);
                self.add_arguments((index, at), &call["function"]["arguments"]);
            }
            if message["function_call"].is_object() {
                self.add_arguments((index, u64::MAX), &message["function_call"]["arguments"]);
            }
        }
    }

    /// Anthropic's message in one piece.
    fn read_message(&mut self, json: &Value) {
        self.read_stop_reason(&json["stop_reason"]);
        self.says_something |= json["content"].as_array().is_some_and(|blocks| !blocks.is_empty());
    }

    fn read_message_event(&mut self, json: &Value) {
        let index = json["index"].as_u64().unwrap_or(0);
        match json["type"].as_str().unwrap_or_default() {
            "content_block_start" => {
                let block = &json["content_block"];
                if block["type"] == "tool_use" {
                    self.tool_arguments.entry((0, index)).or_default();
                }
                self.says_something |= is_text(&block["text"]);
            }
            "content_block_delta" => {
                let delta = &json["delta"];
                self.says_something |= is_text(&delta["text"]) || is_text(&delta["thinking"]);
                if delta["type"] == "input_json_delta" {
                    self.add_arguments((0, index), &delta["partial_json"]);
                }
            }
            "message_delta" => {
                self.read_stop_reason(&json["delta"]["stop_reason"]);
                self.ended = false;
            }
            "message_stop" => self.ended = true,
            _ => {}
        }
    }

    fn read_stop_reason(&mut self, reason: &Value) {
        self.filtered |= reason == "refusal";
        self.ended |= reason.is_string();
    }

    /// OpenAI's response in one piece.
    fn read_response(&mut self, json: &Value) {
        self.ended = json["status"] == "completed";
        self.filtered |= json["incomplete_details"]["reason"] == "content_filter";
        for (at, item) in json["output"].as_array().into_iter().flatten().enumerate() {
            self.says_something = true;
            self.filtered |= item["content"].as_array().into_iter().flatten().any(|c| c["type"] == "refusal");
            if item["type"] == "function_call" {
                self.add_arguments((0, at as u64), &item["arguments"]);
            }
        }
    }

    fn read_response_event(&mut self, json: &Value) {
        match json["type"].as_str().unwrap_or_default() {
            "response.completed" => self.read_response(&json["response"]),
            "response.failed" => self.failed = true,
            _ => {}
        }
    }

    fn add_arguments(&mut self, call: (u64, u64), text: &Value) {
        self.tool_arguments.entry(call).or_default().push_str(text.as_str().unwrap_or_default());
    }
}

fn is_text(value: &Value) -> bool {
    value.as_str().is_some_and(|text| !text.is_empty())
}

/// Whether a part of an answer is there: text, a list of parts, an object.
fn has(value: &Value) -> bool {
    match value {
        Value::Array(parts) => !parts.is_empty(),
        Value::Object(fields) => !fields.is_empty(),
        value => is_text(value),
    }
}

/// The usage in any of the three forms. Events of a stream report it piece by piece, so a field that one of them
/// leaves out keeps its number of `before`.
///
/// OpenAI counts cached tokens as a part of the prompt; Anthropic counts them apart.
fn usage_of(usage: &Value, before: Option<Usage>) -> Usage {
    let number = |names: &[&str]| names.iter().find_map(|name| usage[*name].as_u64());
    let before = before.unwrap_or_default();
    let details = ["prompt_tokens_details", "input_tokens_details"];
    let part = details.iter().find_map(|name| usage[*name]["cached_tokens"].as_u64());
    let all = number(&["prompt_tokens", "input_tokens"]);
    let output = number(&["completion_tokens", "output_tokens"]).unwrap_or(before.output);
    match (part, all) {
        (Some(cached), Some(all)) => {
            Usage { input: all.saturating_sub(cached), cached_input: cached.min(all), output }
        }
        _ => {
            let written = number(&["cache_creation_input_tokens"]).unwrap_or(0);
            let input = all.map_or(before.input, |all| all + written);
            let cached_input = number(&["cache_read_input_tokens"]).unwrap_or(before.cached_input);
            Usage { input, cached_input, output }
        }
    }
}

#[cfg(test)]
#[path = "judge/tests.rs"]
mod tests;
