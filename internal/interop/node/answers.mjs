// Runs a client from npm against answers that a server of this kit streams. It must have the whole
// text after a cut in the middle, and when it comes back after the end. Prints a line for each.

import assert from 'node:assert/strict';
import { setTimeout as sleep } from 'node:timers/promises';
import { AbstractChat, DefaultChatTransport } from 'ai';
import Anthropic from '@anthropic-ai/sdk';
import OpenAI from 'openai';
import { Client } from '@modelcontextprotocol/sdk/client/index.js';
import { StreamableHTTPClientTransport } from '@modelcontextprotocol/sdk/client/streamableHttp.js';

const [, , name, base, text] = process.argv;
const post = (path) => fetch(base + path, { method: 'POST' });
const generate = (topic, n) => post(`/go?topic=${encodeURIComponent(topic)}&n=${n}`);
const passed = (what) => console.log(`ok - ${name}: ${what}`);

async function until(what, f) {
  for (let i = 0; !(await f()); i++) {
    assert.ok(i < 2000, `it never came to this: ${what}`);
    await sleep(10);
  }
}

// The state of a chat, as the hooks of the AI SDK for React, Vue and Svelte have it.
class Chat extends AbstractChat {
  constructor(messages) {
    const state = {
      status: 'ready',
      error: undefined,
      messages,
      pushMessage: (message) => (state.messages = [...state.messages, message]),
      popMessage: () => (state.messages = state.messages.slice(0, -1)),
      replaceMessage: (i, message) => (state.messages = state.messages.with(i, message)),
      snapshot: (thing) => structuredClone(thing),
    };
    super({ id: 'chat', transport: new DefaultChatTransport({ api: `${base}/ai` }), state });
  }

  get text() {
    const last = this.lastMessage;
    return last?.role === 'assistant' ? last.parts.map((part) => part.text ?? '').join('') : '';
  }
}

const clients = {
  async ai() {
    const chat = new Chat([]);
    const sent = chat.sendMessage({ text: 'hello' });
    await until('the answer is known', async () => (await generate('ai/chat', 0)) && chat.status !== 'ready');
    await until('pieces come', async () => (await generate('ai/chat', 1)) && chat.text.length > 10);
    assert.ok(text.startsWith(chat.text) && chat.text !== text);
    await post('/cut');
    await sent;
    assert.equal(chat.status, 'error');

    const resumed = chat.resumeStream();
    await generate('ai/chat', 100);
    await resumed;
    assert.equal(chat.status, 'ready', chat.error);
    assert.equal(chat.text, text);
    assert.equal(chat.messages.length, 2);
    passed('a cut in the middle');

    const reloaded = new Chat(chat.messages.slice(0, 1)); // a page that was reloaded knows what was asked
    await reloaded.resumeStream();
    assert.equal(reloaded.status, 'ready', reloaded.error);
    assert.deepEqual(reloaded.messages, chat.messages);
    passed('a return after the end');
  },

  async openai() {
    const client = new OpenAI({ baseURL: `${base}/openai`, apiKey: 'key', maxRetries: 0 });
    let got = '';
    let after;
    const read = async (stream) => {
      for await (const event of stream) {
        assert.equal(event.sequence_number, (after ?? -1) + 1);
        after = event.sequence_number;
        if (event.type === 'response.output_text.delta') got += event.delta;
        if (event.type === 'response.completed') return true;
        if (after === 3) await post('/cut');
        else if (after < 3) await generate('resp_1', 1);
      }
    };
    const first = client.responses.create({ model: 'm', input: 'hello', stream: true, background: true });
    const generating = until('the first event comes', async () => (await generate('resp_1', after === undefined ? 1 : 0)) && after !== undefined);
    await assert.rejects(async () => read(await first), (error) => error.status === undefined);
    await generating;
    assert.ok(text.startsWith(got) && got !== text);
    const resumed = await client.responses.retrieve('resp_1', { stream: true, starting_after: after });
    await generate('resp_1', 100);
    assert.ok(await read(resumed));
    assert.equal(got, text);
    passed('a cut in the middle');

    got = '';
    after = undefined;
    for await (const event of await client.responses.retrieve('resp_1', { stream: true })) {
      if (event.type === 'response.output_text.delta') got += event.delta;
      after = event.type;
    }
    assert.equal(got, text);
    assert.equal(after, 'response.completed');
    passed('a return after the end');
  },

  async anthropic() {
    const client = new Anthropic({ baseURL: `${base}/anthropic`, apiKey: 'key', maxRetries: 0 });
    const ask = () => client.messages.create({
      model: 'm', max_tokens: 100, messages: [{ role: 'user', content: 'hello' }], metadata: { user_id: 'ann' }, stream: true,
    });
    let got = '';
    let last;
    const read = async (stream, onEvent) => {
      got = '';
      for await (const event of stream) {
        last = event.type;
        if (last === 'content_block_delta') got += event.delta.text;
        await onEvent?.();
      }
    };
    const first = ask();
    const generating = until('the first event comes', async () => (await generate('anthropic/ann', last ? 0 : 1)) && last);
    await assert.rejects(async () => read(await first, () => (got.length > 10 ? post('/cut') : generate('anthropic/ann', 1))));
    await generating;
    assert.ok(text.startsWith(got) && got !== text);
    const again = await ask();
    await generate('anthropic/ann', 100);
    await read(again);
    assert.equal(got, text);
    assert.equal(last, 'message_stop');
    passed('a cut in the middle');

    await read(await ask());
    assert.equal(got, text);
    assert.equal(last, 'message_stop');
    passed('a return after the end');
  },

  async mcp() {
    const connect = async (sessionId) => {
      const client = new Client({ name: 'test', version: '1' });
      const transport = new StreamableHTTPClientTransport(new URL(`${base}/mcp`), { sessionId });
      await client.connect(transport);
      return client;
    };
    const call = { name: 'answer', arguments: {} };
    const client = await connect();
    const errors = [];
    client.onerror = (error) => errors.push(error);
    let got = '';
    let middle;
    const tokens = [];
    const result = client.callTool(call, undefined, {
      onprogress: ({ message }) => (got += message),
      onresumptiontoken: (token) => tokens.push(token),
    });
    await until('the stream has begun', () => tokens.length > 0);
    await generate('session', 3);
    await until('pieces come', () => tokens.length > 3);
    middle = tokens.at(-1);
    await post('/cut');
    await until('it is cut', () => errors.length > 0);
    await generate('session', 100);
    assert.equal((await result).content[0].text, text);
    assert.equal(got, text);
    assert.equal(errors.length, 1, errors);
    passed('a cut in the middle');
    await client.close();

    // Another process that has kept the session and the token of the middle.
    const later = await connect('session');
    const again = await later.callTool(call, undefined, { resumptionToken: middle });
    assert.equal(again.content[0].text, text);
    await later.close();
    passed('a return after the end');
  },
};

await clients[name]();
process.exit(0);
