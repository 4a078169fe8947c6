/** Style sheet of the report page. Colours come in pairs for light and dark; `data-theme` on the root overrides the system's. */
export const pageStyle = /* css */ `
:root {
  color-scheme: light dark;
  --page: light-dark(#f6f5f2, #14151a);
  --panel: light-dark(#ffffff, #1d1f26);
  --ink: light-dark(#1c1d22, #ecebe6);
  --quiet: light-dark(#5d5f69, #a2a4ae);
  --line: light-dark(#dedcd5, #33363f);
  --accent: light-dark(#8a3ffc, #b78bff);
  --accent-ink: light-dark(#ffffff, #14151a);
  --dropped: light-dark(#f6f5f2, #14151a);
  font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', 'Liberation Sans', sans-serif;
}
:root[data-theme='light'] { color-scheme: light; }
:root[data-theme='dark'] { color-scheme: dark; }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); }
header, main, footer { max-width: 1440px; margin: 0 auto; padding: 0 clamp(1rem, 3vw, 2.5rem); }
header { padding-top: 2rem; padding-bottom: .75rem; display: flex; gap: 1rem 2rem; align-items: flex-start; justify-content: space-between; }
h1 { font-size: clamp(1.4rem, 2.6vw, 2rem); line-height: 1.2; margin: 0 0 .35rem; letter-spacing: -.01em; }
header p { margin: 0; color: var(--quiet); max-width: 72ch; }
button, .switch { font: inherit; color: inherit; background: var(--panel); border: 1px solid var(--line); border-radius: .6rem; padding: .4rem .8rem; cursor: pointer; white-space: nowrap; }
:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; }
.controls { position: sticky; top: 0; z-index: 2; background: color-mix(in srgb, var(--page) 88%, transparent); backdrop-filter: blur(10px); border-bottom: 1px solid var(--line); }
.controls form, .keep { max-width: 1440px; margin: 0 auto; padding: .35rem clamp(1rem, 3vw, 2.5rem) .75rem; display: flex; flex-wrap: wrap; gap: .75rem 1.25rem; align-items: center; }
.keep { flex-wrap: nowrap; padding: .75rem clamp(1rem, 3vw, 2.5rem) .35rem; }
.keep label { font-weight: 600; }
.keep input { flex: 1; min-width: 6rem; accent-color: var(--accent); height: 1.75rem; }
.keep output { font-variant-numeric: tabular-nums; font-weight: 700; font-size: 1.25rem; min-width: 3.6ch; text-align: right; }
fieldset { border: 0; margin: 0; padding: 0; display: flex; }
fieldset label { border: 1px solid var(--line); background: var(--panel); padding: .4rem .8rem; cursor: pointer; margin-left: -1px; }
fieldset label:first-of-type { border-radius: .6rem 0 0 .6rem; margin-left: 0; }
fieldset label:last-of-type { border-radius: 0 .6rem .6rem 0; }
fieldset label:has(:checked) { background: var(--accent); color: var(--accent-ink); border-color: var(--accent); }
fieldset label:has(:focus-visible) { outline: 3px solid var(--accent); outline-offset: 2px; z-index: 1; }
fieldset input { position: absolute; opacity: 0; pointer-events: none; }
.switch { display: inline-flex; gap: .5rem; align-items: center; }
.switch input { accent-color: var(--accent); width: 1.05rem; height: 1.05rem; margin: 0; }
.legend { display: flex; align-items: center; gap: .6rem; color: var(--quiet); font-size: .875rem; }
.legend span.bar { width: 8rem; height: .7rem; border-radius: .35rem; }
.note { color: var(--quiet); font-size: .9rem; margin: 1rem 0 0; max-width: 92ch; }
.note kbd { font: .85em ui-monospace, monospace; border: 1px solid var(--line); border-bottom-width: 2px; border-radius: .3rem; padding: 0 .35em; background: var(--panel); }
.images { display: grid; gap: 1.5rem; padding: 1.25rem 0 2rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr)); align-items: start; }
.images.single { grid-template-columns: minmax(0, 60rem); justify-content: center; }
figure { margin: 0; background: var(--panel); border: 1px solid var(--line); border-radius: .9rem; overflow: hidden; }
.picture { position: relative; background: var(--dropped); }
.picture img, .picture canvas { display: block; width: 100%; height: 100%; position: absolute; inset: 0; }
.picture canvas { image-rendering: pixelated; cursor: crosshair; }
figcaption { padding: .7rem 1rem .85rem; }
figcaption strong { display: block; overflow-wrap: anywhere; }
figcaption span { display: block; color: var(--quiet); font-size: .875rem; font-variant-numeric: tabular-nums; min-height: 1.5em; }
table { border-collapse: collapse; margin: 1.25rem 0 0; font-variant-numeric: tabular-nums; font-size: .925rem; }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem; }
th, td { padding: .35rem 1.1rem .35rem 0; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
.scroll { overflow-x: auto; }
footer { padding-top: .5rem; padding-bottom: 2.5rem; color: var(--quiet); font-size: .875rem; }
footer nav { font-size: 1rem; margin-bottom: .5rem; }
footer a { color: var(--accent); margin: 0 .25rem; }
footer p { margin: .35rem 0; max-width: 92ch; }
[hidden] { display: none !important; }
@media (max-width: 40rem) {
  header { flex-direction: column; }
  .controls { display: contents; }
  .controls form { gap: .5rem; }
  .keep { position: sticky; top: 0; z-index: 2; background: var(--page); border-bottom: 1px solid var(--line); margin-bottom: .75rem; padding-bottom: .6rem; }
}
@media (prefers-reduced-transparency: reduce) { .controls { background: var(--page); backdrop-filter: none; } }
@media print { .controls, .note { display: none; } figure { break-inside: avoid; } }
`;
