// WeChat's widget: shows the QR code in a frame inside the element `id`. It takes what WeChat's takes; `redirect_uri`
// comes percent-encoded.
(function (window, document) {
  "use strict";
  var origin = new URL(document.currentScript.src).origin;

  window.WxLogin = function (options) {
    var selfRedirect = options.self_redirect === true ? "true" : options.self_redirect === false ? "false" : "default";
    var address = origin + "/connect/qrconnect?appid=" + options.appid + "&scope=" + options.scope +
      "&redirect_uri=" + options.redirect_uri + "&state=" + options.state +
      "&login_type=jssdk&self_redirect=" + selfRedirect +
      "&styletype=" + (options.styletype || "") + "&sizetype=" + (options.sizetype || "") +
      "&bgcolor=" + (options.bgcolor || "") + "&rst=" + (options.rst || "");
    if (options.style) address += "&style=" + options.style;
    if (options.href) address += "&href=" + options.href;
    if (options.lang === "en") address += "&lang=en";
    if (options.stylelite === 1) address += "&stylelite=1";
    if (options.fast_login === 0) address += "&fast_login=0";

    var frame = document.createElement("iframe");
    frame.src = address;
    frame.width = "300px";
    frame.height = "400px";
    frame.setAttribute("frameborder", "0");
    frame.setAttribute("scrolling", "no");
    frame.setAttribute("allow", "local-network-access");
    frame.setAttribute("sandbox", "allow-scripts allow-same-origin allow-top-navigation allow-popups allow-popups-to-escape-sandbox");
    frame.title = "WeChat";
    frame.onload = function () { if (options.onReady) options.onReady(true); };
    var place = document.getElementById(options.id);
    place.innerHTML = "";
    place.appendChild(frame);
  };
})(window, document);
