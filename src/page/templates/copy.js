(function () {
  "use strict";
  var button = document.getElementById("copy");
  function finish() { button.textContent = button.dataset.done; }
  // For browsers that give no clipboard to pages without TLS.
  function copySelection() {
    var field = document.createElement("textarea"), isCopied = false;
    field.value = location.href;
    field.readOnly = true;
    document.body.appendChild(field);
    field.select();
    try { isCopied = document.execCommand("copy"); } catch (error) { isCopied = false; }
    field.remove();
    if (isCopied) finish();
  }
  button.hidden = false;
  button.addEventListener("click", function () {
    if (!navigator.clipboard) return copySelection();
    navigator.clipboard.writeText(location.href).then(finish, copySelection);
  });
})();
