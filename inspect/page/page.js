// The page asks its own URL for JSON once a second. Counters only grow, so that two answers give
// a rate. All text that comes from a program stands in textContent.

const $ = (id) => document.getElementById(id)
const every = 1000
const mostRows = 200 // messages shown of a topic

// Without the name and the password that the address may have: fetch refuses a URL that has them.
const address = (query) => `${location.origin}${location.pathname}?${new URLSearchParams(query)}`

const ask = async (query) => {
  const response = await fetch(address(query), { cache: 'no-store', signal: AbortSignal.timeout(10_000) })
  if (!response.ok) throw new Error(`the server answers ${response.status}`)
  return response.json()
}

const element = (name, attributes = {}, ...children) => {
  const made = Object.assign(document.createElement(name), attributes)
  made.append(...children)
  return made
}

const number = new Intl.NumberFormat('en')
const count = (n) => number.format(n)
const rate = (n) => n === undefined ? '–' : n === 0 ? '0' : n < 10 ? n.toFixed(1) : count(Math.round(n))
const bytes = (n) => n < 1024 ? `${n} B` : n < 1 << 20 ? `${(n / 1024).toFixed(1)} KiB` : `${(n / (1 << 20)).toFixed(1)} MiB`
const time = (ms) => ms < 1000 ? `${ms} ms` : ms < 60_000 ? `${(ms / 1000).toFixed(1)} s` : ms < 3_600_000 ? `${Math.floor(ms / 60_000)} min` : `${(ms / 3_600_000).toFixed(1)} h`

// rates remembers a counter by its name, and returns how much it grows in a second.
const seen = new Map()
const growth = (name, value) => {
  const now = performance.now()
  const before = seen.get(name)
  seen.set(name, { value, now })
  if (seen.size > 20_000) seen.clear()
  return before && value >= before.value && now > before.now ? (value - before.value) * 1000 / (now - before.now) : undefined
}

const journals = {
  none: ['in memory', 'calm'],
  following: ['follows its journal', 'good'],
  behind: ['behind its journal', ''],
  lost: ['journal not followed', 'bad'],
}

const history = new Map() // rates of each Hub, the newest last
const line = (name, value) => {
  const points = history.get(name) ?? []
  history.set(name, points)
  if (value !== undefined) points.push(value)
  if (points.length > 60) points.shift()
  const svg = document.createElementNS('http://www.w3.org/2000/svg', 'svg')
  svg.setAttribute('viewBox', '0 0 59 44')
  svg.setAttribute('preserveAspectRatio', 'none')
  svg.setAttribute('aria-hidden', 'true')
  const most = Math.max(1, ...points)
  const drawn = document.createElementNS('http://www.w3.org/2000/svg', 'polyline')
  drawn.setAttribute('points', points.map((p, i) => `${60 - points.length + i},${42 - 40 * p / most}`).join(' '))
  svg.append(drawn)
  return element('figure', {}, svg, element('figcaption', { className: 'light', textContent: 'Messages a second, last minute' }))
}

const card = (hub) => {
  const [text, tone] = journals[hub.journal]
  const fact = (name, value) => element('div', {}, element('dt', { textContent: name }), element('dd', { textContent: value }))
  const perSecond = growth(`hub ${hub.name}`, hub.published)
  const facts = [fact('Messages a second', rate(perSecond)), fact('Topics', count(hub.topics)), fact('Readers', count(hub.subscriptions)),
    fact('Kept', count(hub.messages)), fact('Memory', bytes(hub.bytes)), fact('Gaps', count(hub.gaps))]
  if (hub.behind > 0) facts.push(fact('Behind', count(hub.behind)), fact('Lag', time(hub.lag)))
  return element('article', { className: 'card', title: hub.position && `Position ${hub.position}` },
    element('header', {}, element('h3', { textContent: hub.name }), element('span', { className: `badge ${tone}`, textContent: text })),
    element('dl', {}, ...facts), line(hub.name, perSecond))
}

// fill keeps a select's options up to date and its choice.
const fill = (select, names) => {
  if (names.join('\n') === [...select.options].map((o) => o.value).join('\n')) return
  const chosen = select.value
  select.replaceChildren(...names.map((name) => element('option', { value: name, textContent: name })))
  if (names.includes(chosen)) select.value = chosen
}

let after = ''
let next = ''
let tail // { hub, topic, source }

const cell = (text, className = 'number') => element('td', { className, textContent: text })

const showTopics = (page) => {
  next = page.next
  $('next').disabled = !next
  $('first').disabled = after === ''
  $('pager').hidden = !next && after === ''
  $('topics-count').textContent = page.matching === page.all ? count(page.all) : `${count(page.matching)} of ${count(page.all)}`
  $('topics-empty').hidden = page.topics.length > 0
  const focused = document.activeElement?.dataset?.topic
  $('topics').replaceChildren(...page.topics.map((topic) => {
    const perSecond = growth(`topic ${$('hub').value} ${topic.name}`, topic.published)
    const open = element('button', { type: 'button', textContent: topic.name, title: 'Show its messages' })
    open.dataset.topic = topic.name
    open.addEventListener('click', () => follow($('hub').value, topic.name))
    const name = element('td', {}, open)
    if (topic.ended) name.append(' ', element('span', { className: 'badge calm', textContent: 'ended' }))
    const chosen = tail?.hub === $('hub').value && tail?.topic === topic.name
    return element('tr', { className: chosen ? 'chosen' : '', title: topic.newest && `Newest ${topic.newest}` }, name,
      cell(count(topic.subscriptions)), cell(count(topic.events)), cell(count(topic.values)), cell(count(topic.published), 'number spare'),
      cell(rate(perSecond), perSecond > 0 ? 'number busy' : 'number'))
  }))
  if (focused !== undefined) [...$('topics').querySelectorAll('button')].find((b) => b.dataset.topic === focused)?.focus({ preventScroll: true })
}

const showStreams = (page, handler) => {
  $('streams-count').textContent = page.open > page.streams.length ? `${count(page.open)} open, of which ${page.streams.length} are shown` : `${count(page.open)} open`
  $('streams-empty').hidden = page.streams.length > 0
  const name = `handler ${handler.name} `
  const ended = Object.entries(handler.ended ?? {}).map(([why, n]) => `${why} ${count(n)}`).join(', ')
  const refused = Object.entries(handler.refused ?? {}).map(([status, n]) => `${status}: ${count(n)}`).join(', ')
  $('facts').textContent = [`${rate(growth(name + 'messages', handler.messages))} messages and ${bytes(Math.round(growth(name + 'bytes', handler.bytes) ?? 0))} a second`,
    `${count(handler.opened)} opened, ${count(handler.resumed)} resumed`, `${count(handler.gaps)} gaps`, ended && `ended: ${ended}`, refused && `refused: ${refused}`].filter(Boolean).join(' · ')
  $('streams').replaceChildren(...page.streams.map((s) => element('tr', {},
    cell({ sse: 'SSE', ws: 'WebSocket', poll: 'Long polling' }[s.transport] ?? s.transport, ''),
    element('td', {}, element('span', { className: `badge ${s.behind ? s.lag > 1000 ? 'bad' : '' : 'good'}`, textContent: s.behind ? 'behind' : 'up to date' }),
      [s.resumed && ' resumed', s.detached && ' detached'].filter(Boolean).join(',')),
    cell(s.session ?? '–', 'spare'), cell(s.behind ? time(s.lag) : '0'), cell(time(s.age)), cell(`${time(s.silence)} ago`), cell(count(s.seq), 'number spare'))))
}

const row = (meta, text, className = '') => {
  const list = $('messages')
  list.prepend(element('li', { className }, element('span', { className: 'meta', textContent: meta }), text))
  while (list.children.length > mostRows) list.lastChild.remove()
}

const stopTail = () => {
  tail?.source.close()
  tail = undefined
  $('tail-stop').hidden = true
}

// follow shows the messages of a topic, over an event stream of the kit.
const follow = (hub, topic) => {
  stopTail()
  $('messages').replaceChildren()
  $('tail-topic').textContent = topic
  $('tail-stop').hidden = false
  const source = new EventSource(address({ show: 'tail', hub, topic }))
  tail = { hub, topic, source }
  source.onmessage = ({ data }) => {
    const message = JSON.parse(data)
    if (message.gap) row('', 'Messages are missing here.', 'lost')
    if (message.topic === undefined) return
    const text = message.encoding ? `(binary, ${message.encoding}) ${message.data}` : message.data ?? ''
    const meta = [new Date().toLocaleTimeString('en-GB'), message.id, message.type, message.key && `key ${message.key}`, message.from && `from ${message.from}`, message.removed && 'removed']
    row(meta.filter(Boolean).join('  '), text)
  }
  source.onerror = () => { if (source.readyState === EventSource.CLOSED) row('', 'The stream has ended.', 'lost') }
}

let paused = false
let asked = 0
const refresh = async () => {
  const mine = ++asked
  try {
    const all = await ask({ show: 'overview' })
    $('hubs').replaceChildren(...all.hubs.map(card))
    fill($('hub'), all.hubs.map((h) => h.name))
    fill($('handler'), all.handlers.map((h) => h.name))
    if ($('hub').value) {
      const page = await ask({ show: 'topics', hub: $('hub').value, after, has: $('has').value })
      if (mine === asked) showTopics(page)
    }
    const handler = all.handlers.find((h) => h.name === $('handler').value)
    if (handler) showStreams(await ask({ show: 'streams', handler: handler.name }), handler)
    $('state').textContent = 'live'
    $('state').className = 'state good'
  } catch (error) {
    $('state').textContent = `no answer: ${error.message}`
    $('state').className = 'state bad'
  }
}

const anew = () => { after = ''; refresh() }
$('hub').addEventListener('change', anew)
$('has').addEventListener('input', anew)
$('handler').addEventListener('change', refresh)
$('first').addEventListener('click', anew)
$('next').addEventListener('click', () => { after = next; refresh() })
$('tail-stop').addEventListener('click', () => { stopTail(); $('tail-topic').textContent = 'Choose a topic to see its messages as they come.' })
$('pause').addEventListener('click', () => {
  paused = !paused
  $('pause').textContent = paused ? 'Go on' : 'Pause'
  $('pause').setAttribute('aria-pressed', paused)
  if (paused) { $('state').textContent = 'paused'; $('state').className = 'state' }
})

refresh()
setInterval(() => { if (!paused && !document.hidden) refresh() }, every)
