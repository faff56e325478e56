// What OpenAI's Node client gets from the gateway, as one JSON object. It is told nothing but OPENAI_BASE_URL and OPENAI_API_KEY.
import OpenAI from "openai";

const client = new OpenAI({ maxRetries: 0 });
const chat = client.chat.completions;
const messages = [{ role: "user", content: "What are your opening hours?" }];
const weather = {
  type: "function",
  function: { name: "weather", parameters: { type: "object", properties: { city: { type: "string" } } } },
};

async function whole() {
  const done = await chat.create({ model: "auto", messages });
  return { text: done.choices[0].message.content, total_tokens: done.usage.total_tokens };
}

async function streamed(options = {}) {
  const seen = { text: "", usages: [] };
  for await (const chunk of await chat.create({ model: "auto", messages, stream: true, ...options })) {
    seen.text += chunk.choices[0]?.delta?.content ?? "";
    if (chunk.usage) seen.usages.push(chunk.usage.total_tokens);
  }
  return seen;
}

async function tool() {
  const first = (await chat.create({ model: "auto", messages, tools: [weather] })).choices[0].message;
  const result = { role: "tool", tool_call_id: first.tool_calls[0].id, content: "Sunny" };
  const last = await chat.create({ model: "auto", messages: [...messages, first, result], tools: [weather] });
  return { arguments: first.tool_calls[0].function.arguments, answer: last.choices[0].message.content };
}

async function streamedTool() {
  const done = await chat.stream({ model: "auto", messages, tools: [weather] }).finalChatCompletion();
  return done.choices[0].message.tool_calls[0].function.arguments;
}

async function schema() {
  const json_schema = { name: "order", schema: { type: "object" } };
  const done = await chat.create({ model: "auto", messages, response_format: { type: "json_schema", json_schema } });
  return JSON.parse(done.choices[0].message.content);
}

async function unknownField() {
  const done = await chat.create({ model: "auto", messages, a_field_of_next_year: { deep: [1] } });
  return done.object;
}

async function headers() {
  const { response, request_id } = await chat.create({ model: "auto", messages }).withResponse();
  return { request_id, cauce: [...response.headers].filter(([name]) => name.startsWith("x-cauce-")) };
}

async function models() {
  const ids = [];
  for await (const model of client.models.list()) ids.push(model.id);
  return { ids, one: (await client.models.retrieve("small")).id };
}

async function errors() {
  const seen = {};
  for (const model of ["gpt-99", "busy", "down", "picky", "full"]) {
    for (const stream of [false, true]) {
      const error = await chat.create({ model, messages, stream }).then(() => null, (reason) => reason);
      seen[`${model}${stream ? " streamed" : ""}`] = [error?.constructor.name, error?.status, error?.code, !!error?.requestID];
    }
  }
  return seen;
}

console.log(
  JSON.stringify({
    whole: await whole(),
    streamed: await streamed(),
    streamedWithUsage: await streamed({ stream_options: { include_usage: true } }),
    tool: await tool(),
    streamedTool: await streamedTool(),
    schema: await schema(),
    unknownField: await unknownField(),
    headers: await headers(),
    models: await models(),
    errors: await errors(),
  }),
);
