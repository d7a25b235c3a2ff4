'use strict'

// Runs against a gateway and its emulator: MENSHEN_GATEWAY, MENSHEN_EMULATOR, MENSHEN_APPID (see tests/it/clients.rs).
// Its routes: `/` for people who are signed in, `/pub` for all, `/code200` with `reject: code_200`.

const assert = require('node:assert/strict')
const { afterEach, test } = require('node:test')
const { createClient, MenshenError } = require('..')
const { createProxy, createWx } = require('./wx')

const GATEWAY = process.env.MENSHEN_GATEWAY
const EMULATOR = process.env.MENSHEN_EMULATOR
const APPID = process.env.MENSHEN_APPID
const needs = { skip: GATEWAY ? false : 'MENSHEN_GATEWAY is not set' }

let people = 0
const closing = []
afterEach(() => Promise.all(closing.splice(0).map(server => server.close())))

/** A phone of a person that no other test uses. */
function phone(given = {}) {
  people += 1
  return createWx({ emulator: EMULATOR, appid: APPID, wxid: given.wxid || 'person' + people, storage: given.storage })
}

async function proxy(answer) {
  const server = await createProxy(GATEWAY, answer)
  closing.push(server)
  return server.url
}

const KEY = 'menshen ' + GATEWAY + ' '
const refusalOf = promise => promise.then(() => assert.fail('it did not fail'), error => {
  assert.ok(error instanceof MenshenError, String(error.stack))
  return error
})
const paths = sent => sent.map(({ path }) => path)

test('a cold start signs in once for thirty requests at once', needs, async () => {
  const { wx, counts, sent } = phone()
  const client = createClient({ baseUrl: GATEWAY, platform: wx })

  const answers = await Promise.all(Array.from({ length: 30 }, (_, i) => client.request({ url: '/orders/' + i })))

  assert.deepEqual(answers.map(({ statusCode }) => statusCode), Array(30).fill(200))
  assert.equal(counts.login, 1)
  assert.equal(paths(sent).filter(path => path === '/auth/login').length, 1)
})

test('a second launch uses the stored tokens', needs, async () => {
  const first = phone({ wxid: 'relaunch' })
  await createClient({ baseUrl: GATEWAY, platform: first.wx }).request({ url: '/' })

  const second = phone({ wxid: 'relaunch', storage: first.storage })
  await createClient({ baseUrl: GATEWAY, platform: second.wx }).request({ url: '/' })

  assert.deepEqual([second.counts.login, paths(second.sent)], [0, ['/']])
})

test('thirty requests with a token that is refused refresh once', needs, async () => {
  const { wx, counts, sent, storage } = phone()
  const client = createClient({ baseUrl: GATEWAY, platform: wx })
  await client.request({ url: '/' })
  spoil(storage, { access_token: 'x.y.z' })

  const answers = await Promise.all(Array.from({ length: 30 }, () => client.request({ url: '/again' })))

  assert.ok(answers.every(({ statusCode }) => statusCode === 200))
  assert.equal(counts.login, 1)
  assert.equal(paths(sent).filter(path => path === '/auth/refresh').length, 1)
})

test('a token that expires soon is renewed before it is used', needs, async () => {
  const { wx, sent, storage } = phone()
  const client = createClient({ baseUrl: GATEWAY, platform: wx })
  await client.request({ url: '/' })
  spoil(storage, { renewAt: 0 })
  sent.length = 0

  await client.uploadFile({ url: '/photos', filePath: 'wxfile://1.jpg', name: 'file' })

  assert.deepEqual(paths(sent), ['/auth/refresh', '/photos'])
})

test('a refresh whose answer is lost is sent again, and the session goes on', needs, async () => {
  let losses = 1
  const url = await proxy(({ request, forward }) => forward(request.url === '/auth/refresh' && losses-- > 0))
  const { wx, counts, sent, storage } = phone()
  const client = createClient({ baseUrl: url, platform: wx, storageKey: KEY })
  await client.request({ url: '/' })
  spoil(storage, { renewAt: 0 })

  const answer = await client.request({ url: '/after' })

  assert.equal(answer.statusCode, 200)
  assert.equal(counts.login, 1)
  assert.equal(paths(sent).filter(path => path === '/auth/refresh').length, 2)
})

test('a refresh that is interrupted keeps the pair for the next launch', needs, async () => {
  let isDown = false
  const url = await proxy(({ request, forward }) => forward(isDown && request.url === '/auth/refresh'))
  const first = phone({ wxid: 'interrupted' })
  const client = createClient({ baseUrl: url, platform: first.wx, storageKey: KEY })
  await client.request({ url: '/' })
  spoil(first.storage, { renewAt: 0 })
  isDown = true
  assert.equal((await refusalOf(client.request({ url: '/' }))).code, 'network')
  isDown = false

  const second = phone({ wxid: 'interrupted', storage: first.storage })
  const answer = await createClient({ baseUrl: url, platform: second.wx, storageKey: KEY }).request({ url: '/' })

  assert.equal(answer.statusCode, 200)
  assert.equal(second.counts.login, 0)
})

test('a login whose answer is lost is sent again with the same code', needs, async () => {
  let losses = 1
  const url = await proxy(({ request, forward }) => forward(request.url === '/auth/login' && losses-- > 0))
  const { wx, counts } = phone()

  await createClient({ baseUrl: url, platform: wx }).request({ url: '/' })

  assert.equal(counts.login, 1)
})

test('a refresh token that is spent leads to one new sign-in', needs, async () => {
  const { wx, counts, storage } = phone()
  const client = createClient({ baseUrl: GATEWAY, platform: wx })
  await client.request({ url: '/' })
  spoil(storage, { renewAt: 0, refresh_token: 'A'.repeat(43) })

  const answers = await Promise.all([client.request({ url: '/a' }), client.request({ url: '/b' })])

  assert.ok(answers.every(({ statusCode }) => statusCode === 200))
  assert.equal(counts.login, 2)
})

test('a gateway that is down is a typed error, and costs no second code', async () => {
  const { wx } = createWx({ emulator: 'http://127.0.0.1:9', appid: 'wx', wxid: 'a' })
  wx.login = ({ success }) => { wx.logins = (wx.logins || 0) + 1; success({ code: 'c'.repeat(32) }) }

  const error = await refusalOf(createClient({ baseUrl: 'http://127.0.0.1:9', platform: wx }).request({ url: '/' }))

  assert.equal(error.code, 'network')
  assert.match(error.errMsg, /request:fail/)
  assert.equal(wx.logins, 1)
})

for (const status of [429, 503]) {
  test(`a ${status} with Retry-After is heeded: the same request after the wait`, needs, async () => {
    let refusals = 1
    const times = []
    const url = await proxy(({ request, response, forward }) => {
      if (request.url !== '/auth/login' && request.url !== '/slow') return forward()
      times.push([request.url, Date.now()])
      return refusals-- > 0 ? refuse(response, status, 'throttled', 1) : forward()
    })
    const { wx, counts } = phone()
    const client = createClient({ baseUrl: url, platform: wx })
    await client.request({ url: '/' })
    refusals = 1
    await client.request({ url: '/slow', method: 'POST', data: {} })

    assert.deepEqual(times.map(([path]) => path), ['/auth/login', '/auth/login', '/slow', '/slow'])
    assert.ok(times[1][1] - times[0][1] >= 990 && times[3][1] - times[2][1] >= 990, JSON.stringify(times))
    assert.equal(counts.login, 1)
  })
}

test('a long Retry-After is passed on, and no request is sent before it is over', needs, async () => {
  let asked = 0
  const url = await proxy(({ response }) => { asked += 1; refuse(response, 429, 'throttled', 60) })
  const { wx, counts } = phone()
  const client = createClient({ baseUrl: url, platform: wx })

  const first = await refusalOf(client.request({ url: '/' }))
  const second = await refusalOf(client.request({ url: '/' }))

  assert.deepEqual([first.code, first.status, first.retryAfter, first.requestId], ['throttled', 429, 60, 'r1'])
  assert.deepEqual([second.code, asked, counts.login], ['throttled', 1, 2])
})

test('a blocked user is told, and wx.login is not called again', needs, async () => {
  const { wx, counts } = phone({ wxid: 'mallory' })
  const client = createClient({ baseUrl: GATEWAY, platform: wx })

  for (let i = 0; i < 3; i++) {
    const error = await refusalOf(client.request({ url: '/' }))
    assert.deepEqual([error.code, error.status], ['user_blocked', 403])
  }
  assert.equal(counts.login, 1)
})

test('HTML of a proxy is a typed error for a sign-in, and an answer for a request', needs, async () => {
  let isBroken = true
  const url = await proxy(({ response, forward }) => {
    if (!isBroken) return forward()
    response.writeHead(502, { 'Content-Type': 'text/html' })
    return response.end('<html>Bad Gateway</html>')
  })
  const { wx } = phone()
  const client = createClient({ baseUrl: url, platform: wx })
  const error = await refusalOf(client.request({ url: '/' }))
  assert.deepEqual([error.code, error.status], ['unexpected_answer', 502])
  isBroken = false
  await client.signIn()
  isBroken = true

  const answer = await client.request({ url: '/' })

  assert.deepEqual([answer.statusCode, answer.data], [502, '<html>Bad Gateway</html>'])
})

test('who signed out stays signed out, until signIn()', needs, async () => {
  const { wx, counts, storage } = phone({ wxid: 'leaver' })
  const client = createClient({ baseUrl: GATEWAY, platform: wx })
  const { data } = await client.request({ url: '/' }).then(() => ({ data: JSON.parse(storage.get(KEY)).pair }))
  await client.signOut()

  assert.equal((await refusalOf(client.request({ url: '/' }))).code, 'signed_out')
  const relaunched = createClient({ baseUrl: GATEWAY, platform: phone({ wxid: 'leaver', storage }).wx })
  assert.equal((await refusalOf(relaunched.request({ url: '/' }))).code, 'signed_out')
  assert.equal((await relaunched.request({ url: '/pub', auth: 'optional' })).statusCode, 200)
  assert.equal(counts.login, 1)
  const old = await fetch(GATEWAY + '/', { headers: { Authorization: 'Bearer ' + data.access_token } })
  assert.equal(old.status, 401, 'the session has ended at the gateway')

  await relaunched.signIn()
  assert.equal((await relaunched.request({ url: '/' })).statusCode, 200)
})

test('signing out everywhere ends the other sessions too', needs, async () => {
  const here = phone({ wxid: 'everywhere' })
  const there = phone({ wxid: 'everywhere' })
  const client = createClient({ baseUrl: GATEWAY, platform: here.wx })
  const other = createClient({ baseUrl: GATEWAY, platform: there.wx })
  await Promise.all([client.request({ url: '/' }), other.request({ url: '/' })])

  await client.signOut({ everywhere: true })
  await other.request({ url: '/' })

  assert.equal(there.counts.login, 2)
})

test('a route that refuses with code_200 is understood', needs, async () => {
  const { wx, counts, storage } = phone()
  const client = createClient({ baseUrl: GATEWAY, platform: wx })
  await client.request({ url: '/' })
  spoil(storage, { access_token: 'x.y.z' })

  const answer = await client.request({ url: '/code200/orders' })

  assert.deepEqual([answer.statusCode, counts.login], [200, 1])
  assert.notEqual(answer.data.code, 401)
})

test('uploads and downloads are sent again with a new token', needs, async () => {
  const { wx, sent, storage } = phone()
  const client = createClient({ baseUrl: GATEWAY, platform: wx })
  await client.request({ url: '/' })

  for (const [method, options] of [['uploadFile', { filePath: 'wxfile://1.jpg', name: 'file' }], ['downloadFile', {}]]) {
    spoil(storage, { access_token: 'x.y.z' })
    sent.length = 0
    const answer = await client[method]({ url: '/file', ...options })
    assert.equal(answer.statusCode, 200, method)
    assert.deepEqual(paths(sent), ['/file', '/auth/refresh', '/file'], method)
  }
})

test('a WebSocket gets a token and a ws address, and renews it if it was refused', needs, async () => {
  const { wx, sent } = phone()
  const client = createClient({ baseUrl: GATEWAY, platform: wx })

  const task = await client.connectSocket({ url: '/chat', protocols: ['v1'] })
  const opened = sent[sent.length - 1]
  assert.equal(opened.path, GATEWAY.replace('http', 'ws') + '/chat')
  assert.match(opened.headers.Authorization, /^Bearer /)

  task.listeners.error({ errMsg: 'Invalid HTTP status' })
  sent.length = 0
  await client.connectSocket({ url: '/chat' })
  assert.deepEqual(paths(sent), ['/auth/refresh', GATEWAY.replace('http', 'ws') + '/chat'])
})

test('callbacks, progress and abort work as with wx.request', needs, async () => {
  const { wx } = phone()
  const client = createClient({ baseUrl: GATEWAY, platform: wx })
  const called = []
  const succeeded = await new Promise(resolve => client.request({
    url: '/', success: result => called.push(result.statusCode), complete: resolve,
  }))
  assert.deepEqual([called, succeeded.statusCode], [[200], 200])

  const progress = []
  const upload = client.uploadFile({ url: '/up', filePath: 'f', name: 'f' })
  upload.onProgressUpdate(({ progress: percent }) => progress.push(percent))
  await upload
  assert.deepEqual(progress, [100])

  const request = client.request({ url: '/' })
  request.abort()
  const error = await refusalOf(request)
  assert.deepEqual([error.code, error.errMsg], ['aborted', 'request:fail abort'])
})

test('code written for Cloud Run keeps its calls', needs, async () => {
  const { wx } = phone()
  const cloud = createClient({ baseUrl: GATEWAY, platform: wx }).cloud()
  cloud.init()

  const answer = await cloud.callContainer({
    config: { env: 'prod-1' }, path: '/orders', method: 'POST', header: { 'X-WX-SERVICE': 'shop' }, data: { a: 1 },
  })

  assert.equal(answer.statusCode, 200)
})

test('an unknown unionid leads to one new sign-in for a session', needs, async () => {
  const url = await proxy(({ request, response, forward }) => (
    request.url === '/vip' ? refuse(response, 403, 'unionid_unknown', 1) : forward()))
  const { wx, counts } = phone()
  const client = createClient({ baseUrl: url, platform: wx })
  await client.request({ url: '/' })

  for (let i = 0; i < 3; i++) {
    const error = await refusalOf(client.request({ url: '/vip' }))
    assert.deepEqual([error.code, error.status], ['unionid_unknown', 403])
  }
  assert.equal(counts.login, 2)
})

test('an error of a route is a typed error', needs, async () => {
  const { wx } = phone()
  const error = await refusalOf(createClient({ baseUrl: GATEWAY, platform: wx }).request({ url: '/auth/nothing' }))
  assert.deepEqual([error.code, error.status, typeof error.requestId], ['endpoint_unknown', 404, 'string'])
})

test('a token is never sent to another host', async () => {
  const { wx, sent } = createWx({ emulator: 'http://127.0.0.1:9', appid: 'wx', wxid: 'a', storage: new Map([
    ['menshen https://a.example ', JSON.stringify({ pair: { access_token: 't', refresh_token: 'r', renewAt: 1e15 } })],
  ]) })
  const client = createClient({ baseUrl: 'https://a.example', platform: wx })

  for (const url of ['https://b.example/', '//b.example/', 'HTTPS://b.example', 'wss://b.example']) {
    for (const method of ['request', 'uploadFile', 'downloadFile', 'connectSocket']) {
      await assert.rejects(client[method]({ url }), { code: 'url_not_relative' }, url)
    }
  }
  assert.deepEqual(sent, [])
})

/** Changes the stored pair as time or an operator would. */
function spoil(storage, changes) {
  const key = [...storage.keys()][0]
  const stored = JSON.parse(storage.get(key))
  storage.set(key, JSON.stringify({ pair: { ...stored.pair, ...changes } }))
}

function refuse(response, status, code, seconds) {
  response.writeHead(status, { 'Content-Type': 'application/json', 'Retry-After': String(seconds) })
  response.end(JSON.stringify({ code, error: 'temporarily_unavailable', request_id: 'r1' }))
}

