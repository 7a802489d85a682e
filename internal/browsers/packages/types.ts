// Compiles under --strict and exactOptionalPropertyTypes, with each way to resolve modules.
import { Fanfare, type FanfareMessage, type FanfareOptions, type Transport } from '@fanfare-go/fanfare';

const maybe = (value: string): string | undefined => value || undefined;
const options: FanfareOptions = { ws: '/ws', sse: maybe('/events'), topics: undefined, shared: maybe('user-17'), headers: { Authorization: 'x' } };
const transports: readonly Transport[] = ['sse', 'poll'];
const stream = new Fanfare({
  ...options,
  ws: async () => new URL('https://example.com/ws'),
  transports,
  headers: async () => ({ Authorization: 'x' }),
  protocols: () => ['chat', 'bearer.x'],
  token: async () => 'x',
  retry: undefined,
});
const onMessage = ({ data, topic }: FanfareMessage) => console.log(data, topic);
stream.addEventListener('message', onMessage, { once: true });
stream.removeEventListener('message', onMessage);
stream.addEventListener('chat', onMessage);
stream.removeEventListener('chat', onMessage, true);
stream.addEventListener('gap', ({ topics }) => topics?.map((topic) => topic.length));
stream.addEventListener('begin', ({ topics, partial, lastEventId }) => [topics?.length, partial.length, lastEventId]);
stream.addEventListener('ended', ({ type }) => console.log(type));
stream.onbegin = ({ partial }) => console.log(partial.includes('a'));
stream.onended = null;
stream.addEventListener('price', ({ key, removed, first }) => console.log(key.length, removed === first));
stream.addEventListener('error', { handleEvent: ({ status, code, reason }) => console.log(status, code, reason) });
stream.addEventListener('chat', { handleEvent(event: FanfareMessage) { console.log(event.topic); } });
stream.onmessage = onMessage;
stream.onmessage = null;
stream.onerror = ({ status }) => status === 401 && console.log(stream.readyState === stream.OPEN, Fanfare.CLOSED, stream.url, stream.withCredentials);
stream.onerror = null;
// @ts-expect-error a name is required
new Fanfare({ ws: '/ws', shared: true });
// @ts-expect-error there is no such transport
new Fanfare({ ws: '/ws', transports: ['webtransport'] });
