"""The style sheet of the HTML report: light and dark, screen, phone and paper."""

__all__ = ["CSS"]

CSS = """
:root {
  --page: #f6f7f9; --card: #ffffff; --ink: #1c2127; --quiet: #5b6570; --rule: #d5d9de; --accent: #0061a3;
  --good: #00664a; --good-page: #e2f4ec; --bad: #a83f00; --bad-page: #fdeee3; --stripe: #eef3f8;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; line-height: 1.55;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #12161b; --card: #1a2027; --ink: #e4e8ec; --quiet: #9aa5b1; --rule: #333c46; --accent: #6cb6f0;
    --good: #5fd0a6; --good-page: #14332a; --bad: #ff9d66; --bad-page: #3a2416; --stripe: #202832;
  }
}
* { box-sizing: border-box; }
html { scroll-behavior: smooth; scroll-padding-top: 3.6rem; -webkit-text-size-adjust: 100%; }
@media (prefers-reduced-motion: reduce) { html { scroll-behavior: auto; } }
body { margin: 0; background: var(--page); color: var(--ink); overflow-wrap: break-word; }
header, main, footer { max-width: 66rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2.5rem; padding-bottom: 1.5rem; }
h1 { font-size: clamp(1.6rem, 4.5vw, 2.4rem); line-height: 1.15; letter-spacing: -0.02em; margin: 0.2rem 0 1.4rem; }
h2 { font-size: 1.35rem; line-height: 1.25; letter-spacing: -0.01em; margin: 0 0 0.9rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 0.6rem; }
p { margin: 0 0 0.9rem; max-width: 75ch; }
a { color: var(--accent); }
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible {
  outline: 2px solid var(--accent); outline-offset: 2px; }
.kicker { display: block; margin: 0 0 0.15rem; color: var(--quiet); font-size: 0.74rem; font-weight: 600;
  letter-spacing: 0.06em; text-transform: uppercase; }
.claims { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 20rem), 1fr)); }
.claims section { background: var(--card); border: 1px solid var(--rule); border-top: 4px solid var(--good);
  border-radius: 0.6rem; padding: 1rem 1.2rem 0.3rem; }
.claims section + section { border-top-color: var(--bad); }
.claims h2 { font-size: 1.02rem; margin-bottom: 0.4rem; }
nav { position: sticky; top: 0; z-index: 3; background: var(--page); border-block: 1px solid var(--rule); }
nav div { display: flex; gap: 0.15rem; max-width: 66rem; margin: 0 auto; padding: 0.4rem 0.8rem; overflow-x: auto;
  scrollbar-width: none; }
nav a { flex: none; padding: 0.25rem 0.6rem; border-radius: 1rem; color: var(--ink); font-size: 0.88rem;
  text-decoration: none; }
nav a:hover { background: var(--card); color: var(--accent); }
main > section { margin: 2.2rem 0; }
.cards { display: grid; gap: 0.9rem; grid-template-columns: repeat(auto-fill, minmax(min(100%, 18.5rem), 1fr)); }
.card { display: block; background: var(--card); border: 1px solid var(--rule); border-radius: 0.6rem;
  padding: 0.85rem 1rem; color: var(--ink); font-size: 0.89rem; line-height: 1.45; text-decoration: none; }
.card:hover { border-color: var(--accent); }
.card strong { display: block; margin-bottom: 0.3rem; font-size: 1rem; line-height: 1.3; }
.warnings { background: var(--bad-page); border-left: 4px solid var(--bad); border-radius: 0.4rem;
  padding: 1rem 1.2rem 0.4rem; }
.warnings h2 { font-size: 1.02rem; margin-bottom: 0.4rem; color: var(--bad); }
.warnings ul { margin: 0 0 0.6rem; padding-left: 1.2rem; }
.facts { display: grid; gap: 0.2rem 1.2rem; margin: 0 0 1rem; font-size: 0.92rem; }
.facts div { display: grid; grid-template-columns: minmax(7rem, 11rem) 1fr; gap: 1rem; padding: 0.35rem 0;
  border-bottom: 1px solid var(--rule); }
.facts dt { color: var(--quiet); }
.facts dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.study { background: var(--card); border: 1px solid var(--rule); border-radius: 0.8rem; padding: 1.5rem 1.6rem; }
.table-name { margin-left: 0.4rem; color: var(--quiet); font-size: 0.9rem; font-weight: 400; white-space: nowrap; }
.verdict { border-left: 3px solid var(--accent); padding-left: 0.9rem; }
.aside { color: var(--quiet); font-size: 0.86rem; }
.figures { display: grid; gap: 1rem 2rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr));
  align-items: start; margin: 1.2rem 0; }
figure { margin: 0; min-width: 0; }
figure svg { display: block; width: 100%; max-width: 27rem; height: auto; }
.scroll { overflow-x: auto; margin: 0 0 0.7rem; border: 1px solid var(--rule); border-radius: 0.5rem; }
table { border-collapse: separate; border-spacing: 0; width: 100%; font-size: 0.86rem;
  font-variant-numeric: tabular-nums; }
th, td { padding: 0.42rem 0.7rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
thead th { color: var(--quiet); font-weight: 600; font-size: 0.78rem; }
tbody tr:last-child > * { border-bottom: 0; }
th:first-child { position: sticky; left: 0; z-index: 1; min-width: 11.5rem; max-width: 17rem; background: var(--card);
  text-align: left; white-space: normal; font-weight: 500; }
tr.reference > * { background: var(--stripe); }
tr.reference > th { font-weight: 700; }
tr.reported > * { color: var(--quiet); font-style: italic; }
.words :is(td, th) { text-align: left; }
.words td { white-space: normal; vertical-align: top; }
.words td:last-child { min-width: 15rem; overflow-wrap: anywhere; }
.words th { vertical-align: top; }
td.quiet { color: var(--quiet); }
.words td.quiet { color: inherit; }
td.beyond { color: var(--good); font-weight: 600; }
td.within { color: var(--quiet); }
td.bad, .words td.bad { color: var(--bad); font-weight: 600; }
.discussion { border-left: 3px solid var(--rule); padding-left: 0.9rem; }
.discussion h3 { margin-top: 0.4rem; }
details { margin-top: 0.8rem; }
summary { cursor: pointer; color: var(--accent); font-size: 0.92rem; padding: 0.2rem 0; }
details[open] > summary { margin-bottom: 0.5rem; }
pre { overflow-x: auto; margin: 0; padding: 0.8rem 1rem; background: var(--stripe); border-radius: 0.5rem;
  font: 0.8rem/1.6 ui-monospace, "DejaVu Sans Mono", Menlo, Consolas, monospace; }
footer { padding-block: 0.5rem 3rem; color: var(--quiet); font-size: 0.85rem; }
@media (max-width: 40rem) {
  header, main, footer { padding-inline: 0.7rem; }
  .study { padding: 1.1rem 0.75rem; }
  .facts div { grid-template-columns: 1fr; gap: 0; }
  th:first-child { min-width: 7rem; max-width: 9.5rem; }
}
@media print {
  :root { --page: #fff; --card: #fff; --ink: #000; --quiet: #444; --rule: #bbb; --stripe: #f0f0f0; font-size: 10pt; }
  nav { display: none; }
  .study { border: 0; padding: 0; }
  figure, tr, .card, .claims section { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll, pre { overflow: visible; border: 0; white-space: pre-wrap; }
  th, td { white-space: normal; padding: 0.2rem 0.35rem; }
}
"""
