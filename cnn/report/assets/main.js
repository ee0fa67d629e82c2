// What a curious person finds in the browser's console, and what the tests ask.
"use strict";

window.cnn = {
  model,
  original,
  compute,
  forward,
  receptiveField,
  runnable,
  state: () => current,
  shown: () => ({ ...total.dataset, title: title.textContent }),
  inspect: (step, channel, row, column) => {
    const button = buttons.find((b) => stepOf(b) === step && Number(b.dataset.channel) === channel);
    inspect(button, row, column);
  },
};
document.body.classList.add("ready");
