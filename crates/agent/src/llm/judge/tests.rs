use super::*;

fn whole(endpoint: Endpoint, body: &str) -> Judgement {
    judge_whole(endpoint, body.as_bytes())
}

/// The tests break long JSON into lines, and an event has it in one.
fn event(data: &str) -> Bytes {
    Bytes::from(format!("data: {}\n\n", data.replace('\n', " ")))
}

fn stream(endpoint: Endpoint, events: &[&str]) -> Judgement {
    let events: Vec<Bytes> = events.iter().map(|data| event(data)).collect();
    judge_events(endpoint, events.iter())
}

const CHAT: &str = r#"{"model": "m-1", "choices": [{"index": 0, "finish_reason": "stop",
    "message": {"role": "assistant", "content": "Because."}}],
    "usage": {"prompt_tokens": 10, "completion_tokens": 3, "prompt_tokens_details": {"cached_tokens": 4}}}"#;

#[test]
fn a_whole_answer_is_kept_with_its_model_and_usage() {
    let judged = whole(Endpoint::Chat, CHAT);
    assert_eq!(judged.not_kept, None);
    assert_eq!(judged.model.as_deref(), Some("m-1"));
    assert_eq!(judged.usage, Some(Usage { input: 6, cached_input: 4, output: 3 }));
}

#[test]
fn an_answer_that_was_cut_by_its_length_is_kept() {
    assert_eq!(whole(Endpoint::Chat, &CHAT.replace("stop", "length")).not_kept, None);
}

#[test]
fn answers_that_say_nothing_failed_or_were_filtered_are_not_kept() {
    for (body, why) in [
        ("no JSON", NotKept::Form),
        ("{}", NotKept::Cut),
        (r#"{"error": {"message": "overloaded"}}"#, NotKept::Failed),
        (&CHAT.replace("Because.", ""), NotKept::Empty),
        (&CHAT.replace("stop", "content_filter"), NotKept::Filtered),
        (&CHAT.replace(r#""content": "Because.""#, r#""refusal": "No.""#), NotKept::Filtered),
        (
            &CHAT.replace(
                r#""content": "Because.""#,
                r#""tool_calls": [{"function": {"arguments": "{\"a\": "}}]"#,
            ),
            NotKept::ToolArguments,
        ),
    ] {
        assert_eq!(whole(Endpoint::Chat, body).not_kept, Some(why), "{body}");
    }
    let message =
        r#"{"type": "message", "content": [{"type": "text", "text": "No"}], "stop_reason": "refusal"}"#;
    assert_eq!(whole(Endpoint::Messages, message).not_kept, Some(NotKept::Filtered));
    assert_eq!(whole(Endpoint::Messages, &message.replace("refusal", "end_turn")).not_kept, None);
    let response = r#"{"status": "incomplete", "error": null, "output": [{"type": "message"}]}"#;
    assert_eq!(whole(Endpoint::Responses, response).not_kept, Some(NotKept::Cut));
    assert_eq!(whole(Endpoint::Responses, &response.replace("incomplete", "completed")).not_kept, None);
    assert_eq!(whole(Endpoint::Embeddings, r#"{"data": []}"#).not_kept, Some(NotKept::Cut));
    assert_eq!(whole(Endpoint::Embeddings, r#"{"data": [{"embedding": [1]}]}"#).not_kept, None);
}

#[test]
fn a_chat_stream_needs_its_mark_and_whole_tool_arguments() {
    let text = r#"{"model": "m", "choices": [{"index": 0, "delta": {"content": "Hi"}}]}"#;
    let end = r#"{"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]}"#;
    let usage = r#"{"choices": [], "usage": {"prompt_tokens": 2, "completion_tokens": 1}}"#;
    let judged = stream(Endpoint::Chat, &[text, end, usage, "[DONE]"]);
    assert_eq!((judged.not_kept, judged.usage.unwrap().input), (None, 2));
    assert_eq!(stream(Endpoint::Chat, &[text, end]).not_kept, Some(NotKept::Cut));
    assert_eq!(stream(Endpoint::Chat, &[end, "[DONE]"]).not_kept, Some(NotKept::Empty));
    assert_eq!(stream(Endpoint::Chat, &[text, "{half", "[DONE]"]).not_kept, Some(NotKept::Failed));
    let call = |text: &str| {
        let text = serde_json::to_string(text).unwrap();
        let call = format!(r#"{{"index": 0, "function": {{"arguments": {text}}}}}"#);
        format!(r#"{{"choices": [{{"index": 0, "delta": {{"tool_calls": [{call}]}}}}]}}"#)
    };
    let (one, two) = (call(r#"{"a":"#), call("1}"));
    assert_eq!(stream(Endpoint::Chat, &[&one, &two, end, "[DONE]"]).not_kept, None);
    assert_eq!(stream(Endpoint::Chat, &[&one, end, "[DONE]"]).not_kept, Some(NotKept::ToolArguments));
}

#[test]
fn a_message_stream_needs_its_stop_and_adds_up_its_usage() {
    let start = r#"{"type": "message_start", "message": {"model": "c", "usage":
        {"input_tokens": 5, "cache_read_input_tokens": 7, "output_tokens": 1}}}"#;
    let text =
        r#"{"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "Hi"}}"#;
    let end =
        r#"{"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 9}}"#;
    let stop = r#"{"type": "message_stop"}"#;
    let judged = stream(Endpoint::Messages, &[start, text, end, stop]);
    assert_eq!(judged.not_kept, None);
    assert_eq!(judged.usage, Some(Usage { input: 5, cached_input: 7, output: 9 }));
    assert_eq!(stream(Endpoint::Messages, &[start, text, end]).not_kept, Some(NotKept::Cut));
    let error = r#"{"type": "error", "error": {"type": "overloaded_error"}}"#;
    assert_eq!(stream(Endpoint::Messages, &[start, text, error]).not_kept, Some(NotKept::Failed));
    let part = r#"{"type": "content_block_delta", "index": 1, "delta": {"type": "input_json_delta",
        "partial_json": "{\"a\""}}"#;
    assert_eq!(stream(Endpoint::Messages, &[part, end, stop]).not_kept, Some(NotKept::ToolArguments));
}

#[test]
fn a_response_stream_needs_its_completion() {
    let delta = r#"{"type": "response.output_text.delta", "delta": "Hi"}"#;
    let done = r#"{"type": "response.completed", "response": {"model": "r", "status": "completed",
        "output": [{"type": "message", "content": [{"type": "output_text", "text": "Hi"}]}],
        "usage": {"input_tokens": 3, "input_tokens_details": {"cached_tokens": 1}, "output_tokens": 2}}}"#;
    let judged = stream(Endpoint::Responses, &[delta, done]);
    assert_eq!(judged.not_kept, None);
    assert_eq!(judged.usage, Some(Usage { input: 2, cached_input: 1, output: 2 }));
    assert_eq!(stream(Endpoint::Responses, &[delta]).not_kept, Some(NotKept::Cut));
}
