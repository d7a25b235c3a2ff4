// Waits for the phone and goes on with what it said, as WeChat's page does.
(function () {
  "use strict";
  var page = document.getElementById("sign-in");
  if (!page) return;
  var last = "";

  function poll() {
    var query = "?uuid=" + page.dataset.uuid + "&last=" + last + "&_=" + Date.now();
    fetch("/connect/l/qrconnect" + query, { cache: "no-store" })
      .then(function (reply) { return reply.text(); })
      .then(act)
      .catch(function () { setTimeout(poll, 2000); });
  }

  function act(text) {
    var found = /wx_errcode=(\d+);window\.wx_code='(\w*)'/.exec(text);
    var errcode = found ? found[1] : "408";
    if (errcode === "402" || errcode === "500") return location.reload();
    if (errcode !== "408") page.dataset.step = last = errcode;
    if (errcode === "405") return go(page.dataset.before + found[2] + page.dataset.after);
    if (errcode === "403" && page.dataset.refused) return go(page.dataset.refused);
    poll();
  }

  function go(address) {
    (page.dataset.target === "self" ? window : window.top).location.href = address;
  }

  poll();
})();
