'use strict'

// Runs against a gateway with conf/existing-client.yaml and its emulator; see tests/it/existing_clients.rs.

const assert = require('node:assert/strict')
const { test } = require('node:test')
const { createGuideClient } = require('./guide')
const { createWaferClient, KEY } = require('./wafer')
const { createWx } = require('./wx')

const { MENSHEN_GATEWAY: GATEWAY, MENSHEN_EMULATOR: emulator, MENSHEN_APPID: appid } = process.env
const phone = wxid => createWx({ emulator, appid, wxid })
const paths = sent => sent.map(({ path }) => path)

test('the client of the guide signs in and sends its session in a header', async () => {
  const { wx, counts } = phone('guide-header')
  const client = createGuideClient(wx, GATEWAY)

  const answer = await client.login({ username: 'zhang', password: 'a+b&c=d é 密码' })
  const orders = await client.request('/orders')

  assert.deepEqual(Object.keys(answer), ['sessionId', 'left', 'ok'])
  assert.equal(typeof answer.left, 'number')
  assert.equal(answer.ok, true)
  assert.equal(orders.statusCode, 200)
  assert.match(orders.data, /^X-WX-OPENID: o/m)
  assert.equal(counts.login, 1)
})

test('the client of the guide signs in silently and sends its session in the query', async () => {
  const { wx } = phone('guide-query')
  const client = createGuideClient(wx, GATEWAY)

  await client.login()
  const orders = await client.request('/orders', { inQuery: true })

  assert.equal(orders.statusCode, 200)
  assert.match(orders.data, /^GET \/orders\?page=2 HTTP\/1.1/)
  assert.match(orders.data, /^X-WX-OPENID: o/m)
  assert.doesNotMatch(orders.data, /sessionId/i)
})

test('the client of the guide reads an error in its own shape', async () => {
  const { wx } = phone('guide-error')
  const client = createGuideClient({ ...wx, login: ({ success }) => success({ code: 'made-up' }) }, GATEWAY)

  await assert.rejects(client.login(), /^Error: login: code_invalid$/)
  client.forget()
  assert.equal((await client.request('/orders')).statusCode, 401)
})

test('the client of Wafer signs in at its first request', async () => {
  const { wx, sent, storage } = phone('wafer')
  const client = createWaferClient(wx, { loginUrl: GATEWAY + '/weapp/login' })

  const answer = await client.request(GATEWAY + '/weapp/user')

  assert.equal(answer.statusCode, 200)
  assert.match(answer.data, /^X-WX-OPENID: o/m)
  assert.doesNotMatch(answer.data, /X-WX-Skey/i)
  assert.deepEqual(paths(sent), ['/weapp/login', '/weapp/user'])
  assert.ok(storage.get(KEY))
})

for (const path of ['/weapp/user', '/orders']) {
  test('the client of Wafer signs in again when its session is over: ' + path, async () => {
    const { wx, sent, storage, counts } = phone('wafer-again')
    const client = createWaferClient(wx, { loginUrl: GATEWAY + '/weapp/login' })
    await client.request(GATEWAY + path)
    storage.set(KEY, 'x.y.z')
    sent.length = 0

    const answer = await client.request(GATEWAY + path)

    assert.equal(answer.statusCode, 200)
    assert.deepEqual(paths(sent), [path, '/weapp/login', path])
    assert.equal(counts.login, 2)
  })
}

test('the client of Wafer learns who signed in', async () => {
  const { wx } = phone('wafer-who')

  const userinfo = await createWaferClient(wx, { loginUrl: GATEWAY + '/weapp/login' }).login()

  assert.match(userinfo.openId, /^o/)
  assert.ok('unionId' in userinfo)
})
