// Vercel's `ai` SDK against the gateway: prints what it got, as JSON.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { embed, generateObject, generateText, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";

globalThis.AI_SDK_LOG_WARNINGS = false;
const cauce = createOpenAICompatible({
  name: "cauce",
  baseURL: process.env.OPENAI_BASE_URL,
  apiKey: "not-needed",
  includeUsage: true,
  supportsStructuredOutputs: true,
});
const model = cauce("auto");
const prompt = "What are your opening hours?";
const weather = tool({
  description: "The weather of a city",
  inputSchema: z.object({ city: z.string() }),
  execute: async ({ city }) => `Sunny in ${city}`,
});
const said = {};

const whole = await generateText({ model, prompt });
said.whole = { text: whole.text, total: whole.usage.totalTokens, finish: whole.finishReason };

const stream = streamText({ model, prompt });
let text = "";
for await (const piece of stream.textStream) text += piece;
said.streamed = { text, total: (await stream.usage).totalTokens };

const called = await generateText({ model, prompt, tools: { weather }, stopWhen: stepCountIs(2) });
said.tool = { text: called.text, steps: called.steps.length };

const streamedCall = streamText({ model, prompt, tools: { weather }, stopWhen: stepCountIs(2) });
let streamedAnswer = "";
for await (const piece of streamedCall.textStream) streamedAnswer += piece;
said.streamedTool = { text: streamedAnswer, steps: (await streamedCall.steps).length };

const schema = z.object({ dish: z.string(), people: z.number() });
said.object = (await generateObject({ model, prompt, schema })).object;

const image = Buffer.from("iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAQAAAC1HAwCAAAAC0lEQVR42mNkYAAAAAYAAjCB0C8AAAAASUVORK5CYII=", "base64");
const content = [{ type: "text", text: "What is this?" }, { type: "image", image }];
said.image = (await generateText({ model, messages: [{ role: "user", content }] })).text;

said.embedding = (await embed({ model: cauce.textEmbeddingModel("auto"), value: "hola" })).embedding.length;

try {
  await generateText({ model: cauce("busy"), prompt, maxRetries: 0 });
} catch (error) {
  said.error = [error.name, error.statusCode, error.isRetryable];
}
console.log(JSON.stringify(said));
