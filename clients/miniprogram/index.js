'use strict'

const { Client } = require('./lib/client')
const { MenshenError } = require('./lib/errors')

/**
 * The requests of a mini program to a Menshen gateway.
 *
 * @param {object} options
 * @param {string} options.baseUrl address of the gateway, such as `https://shop.example.com`
 * @param {string} [options.app] name of the mini program in the gateway's configuration, if it has several
 */
function createClient(options) {
  return new Client(options)
}

module.exports = { createClient, MenshenError }
