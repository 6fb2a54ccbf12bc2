(() => {
  const said = document.getElementById("said");

  // Pages over plain HTTP, and framed ones, may have no clipboard; the selection does there, and stays for Ctrl-C if that fails too.
  async function copy(source) {
    try {
      await navigator.clipboard.writeText(source.textContent);
      return true;
    } catch {
      const range = document.createRange();
      range.selectNodeContents(source);
      const selection = getSelection();
      selection.removeAllRanges();
      selection.addRange(range);
      return document.execCommand("copy");
    }
  }

  for (const button of document.querySelectorAll("button[data-copy]")) {
    let timer;
    button.hidden = false;
    button.addEventListener("click", async () => {
      const copied = await copy(document.getElementById(button.dataset.copy));
      button.textContent = copied ? "Copied" : "Selected";
      button.classList.toggle("copied", copied);
      said.textContent = copied ? "Copied to the clipboard." : "Selected. Press Ctrl-C to copy.";
      clearTimeout(timer);
      timer = setTimeout(() => {
        button.textContent = "Copy";
        button.classList.remove("copied");
        said.textContent = "";
      }, 2000);
    });
  }
})();
