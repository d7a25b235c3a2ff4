'use strict'

// A client that speaks as Wafer 2's client SDK does, written from the description of its protocol: the login is a GET
// with the code in `X-WX-Code`; the answer is `{"code":0,"data":{"skey","userinfo"}}`; each request has `X-WX-Skey`;
// an answer 401 or `code: -1` means that the session is over, and the client signs in and repeats the request once.

const KEY = 'weapp_session_' + 'example'

function createWaferClient(wx, { loginUrl }) {
  function login() {
    return new Promise((resolve, reject) => {
      wx.login({
        success({ code }) {
          wx.request({
            url: loginUrl,
            header: { 'X-WX-Code': code, 'X-WX-Encrypted-Data': 'c2VhbGVk', 'X-WX-IV': 'aXY=' },
            success({ data }) {
              const isGood = data && data.code === 0 && data.data && data.data.skey && data.data.userinfo
              if (!isGood) return reject(new Error('login: ' + JSON.stringify(data)))
              wx.setStorageSync(KEY, data.data.skey)
              resolve(data.data.userinfo)
            },
            fail: reject,
          })
        },
        fail: reject,
      })
    })
  }

  async function request(url, hasRetried = false) {
    if (!wx.getStorageSync(KEY)) await login()
    const result = await new Promise((resolve, reject) => {
      wx.request({ url, header: { 'X-WX-Skey': wx.getStorageSync(KEY) }, success: resolve, fail: reject })
    })
    const isOver = result.statusCode === 401 || result.data && result.data.code === -1
    if (!isOver) return result
    wx.removeStorageSync(KEY)
    if (hasRetried) throw new Error('the session is over: ' + JSON.stringify(result.data))
    return request(url, true)
  }

  return { login, request }
}

module.exports = { createWaferClient, KEY }
