// Tests of tickets that count once, with the fakes of harness.js.

import { test, describe } from 'node:test';
import assert from 'node:assert/strict';
import { Fanfare } from './fanfare.js';
import { answer, begin, position, requests, settled, sources, pass } from './harness.js';

const errorsOf = (stream) => {
  const errors = [];
  stream.addEventListener('error', ({ status, reason }) => errors.push(status ?? reason));
  return errors;
};

describe('a ticket counts once', () => {
  // Each ticket is accepted once: what follows gets 401.
  const office = () => {
    const spent = new Set();
    let n = 0;
    return {
      ticket: async () => `http://x/events?ticket=${++n}`,
      accepts: (url) => {
        const ticket = url.searchParams.get('ticket');
        return !spent.has(ticket) && !!spent.add(ticket);
      },
    };
  };

  for (const status of [503, 403, 204]) {
    test(`the answer after a failed EventSource is ${status}, and no 401 of its ticket`, async () => {
      const { ticket, accepts } = office();
      answer((request) => request.respond(accepts(request.url) ? status : 401));
      const { stream } = await begin({ sse: ticket, transports: ['sse'] });
      const errors = errorsOf(stream);
      assert.ok(accepts(sources[0].url));
      Object.assign(sources[0], { readyState: 2 }).onerror({});
      await settled();
      assert.equal(requests.length, 1);
      assert.deepEqual(errors, [status]);
      assert.equal(stream.readyState, status === 503 ? Fanfare.CONNECTING : Fanfare.CLOSED);
    });
  }

  test('a stream that is granted when an EventSource failed is used', async () => {
    const { ticket, accepts } = office();
    answer((request) => request.respond(accepts(request.url) ? 200 : 401));
    const { stream } = await begin({ sse: ticket, transports: ['sse'], lastEventId: '1-1' });
    accepts(sources[0].url);
    Object.assign(sources[0], { readyState: 2 }).onerror({});
    await settled();
    assert.equal(position(requests[0]), '1-1');
    await requests[0].deliver({ ready: '1-1' });
    assert.equal(stream.state, 'open');
  });

  test('a function that fails after an EventSource did is a failure, and nothing more', async () => {
    let n = 0;
    const { stream } = await begin({ sse: () => { if (++n === 2) throw new Error('offline'); return 'http://x/events'; }, transports: ['sse'] });
    Object.assign(sources[0], { readyState: 2 }).onerror({});
    await pass(2000);
    assert.equal(requests.length, 0);
    assert.equal(sources.length, 2);
    assert.equal(stream.state, 'connecting');
  });
});
