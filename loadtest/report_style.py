"""The report's style sheet: light and dark, wide and narrow, no font and no picture from elsewhere.

The hues of the series keep their distance for readers who see few colours; every series is also named in words.
"""

from typing import Final

STYLE: Final = """
:root {
  color-scheme: light dark;
  --page: #f6f5f1; --card: #ffffff; --ink: #16181d; --soft: #5b616e; --faint: #8b919e; --rule: #e4e2db;
  --good: #0a7d4f; --goodback: #e3f4ea; --bad: #c4262e; --badback: #fdeaea; --warn: #8a5a00; --warnback: #fdf3dc;
  --c1: #2a78d6; --c2: #12936a; --c3: #c98500; --c4: #d43d3d; --c5: #6a55c7; --c6: #7d828f;
  --p50: #7fb2ee; --p95: #2a78d6; --p99: #123f80; --shade: #f4a10022; --mark: #c4262e;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #121317; --card: #1b1d23; --ink: #eceef2; --soft: #a7adba; --faint: #7b818e; --rule: #2d3038;
    --good: #4cc38a; --goodback: #12301f; --bad: #ff7b7b; --badback: #3a1719; --warn: #f0b849; --warnback: #33270c;
    --c1: #5b9ff0; --c2: #2fb387; --c3: #dfa026; --c4: #f06b6b; --c5: #a394f0; --c6: #8f95a3;
    --p50: #2f5f9e; --p95: #5b9ff0; --p99: #c3dcfb; --shade: #f0b8491f; --mark: #ff7b7b;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); line-height: 1.5;
  font: 15px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "DejaVu Sans", sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 24px 64px; }
header { border-radius: 16px; padding: 26px 30px; margin-bottom: 18px; border: 1px solid; }
header.good { background: var(--goodback); border-color: var(--good); }
header.bad { background: var(--badback); border-color: var(--bad); }
header p { margin: 0; color: var(--soft); }
header h1 { margin: 2px 0 6px; font-size: 34px; line-height: 1.15; letter-spacing: -.02em; }
header.good h1 { color: var(--good); }
header.bad h1 { color: var(--bad); }
header .say { font-size: 18px; color: var(--ink); }
header ul { margin: 10px 0 0; padding-left: 20px; color: var(--bad); font-weight: 600; }
.eyebrow { text-transform: uppercase; letter-spacing: .09em; font-size: 12px; font-weight: 600; }
h2 { font-size: 19px; margin: 38px 0 12px; letter-spacing: -.01em; }
h2 small { font-weight: 400; font-size: 14px; color: var(--soft); margin-left: 8px; letter-spacing: 0; }
.cards { display: grid; gap: 12px; grid-template-columns: repeat(4, 1fr); }
.card { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 14px 16px; }
.card b { display: block; font-size: 27px; line-height: 1.2; font-weight: 650; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.card span { color: var(--soft); font-size: 13px; }
.card.good b { color: var(--good); }
.card.bad { border-color: var(--bad); background: var(--badback); }
.card.bad b { color: var(--bad); }
.panel { background: var(--card); border: 1px solid var(--rule); border-radius: 12px; padding: 16px 18px; overflow-x: auto; }
.panel + .panel { margin-top: 14px; }
.panel h3 { margin: 0; font-size: 15px; }
.panel h3 small { font-weight: 400; color: var(--soft); margin-left: 6px; }
.warning { background: var(--warnback); border: 1px solid var(--warn); border-radius: 10px; padding: 8px 14px;
  margin-top: 10px; color: var(--warn); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th { text-align: left; font-weight: 600; font-size: 12.5px; color: var(--soft); padding: 6px 10px 8px; white-space: nowrap; }
td { padding: 8px 10px; border-top: 1px solid var(--rule); vertical-align: top; overflow-wrap: anywhere; }
th.n, td.n { text-align: right; white-space: nowrap; }
td.id { font-weight: 600; white-space: nowrap; }
tr.sub td { border-top: none; padding-top: 0; color: var(--soft); }
tr.wrong td { background: var(--badback); }
.pill { display: inline-block; border-radius: 99px; padding: 1px 10px; font-size: 12.5px; font-weight: 600;
  white-space: nowrap; }
.pill.good { background: var(--goodback); color: var(--good); }
.pill.bad { background: var(--bad); color: var(--card); }
.pill.warn { background: var(--warnback); color: var(--warn); }
.examples { margin: 8px 0 2px; padding-left: 18px; font-size: 13.5px; }
.examples code { font-weight: 600; }
.examples span { color: var(--soft); }
code, pre { font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; font-size: 13px; }
pre { margin: 0; padding: 14px 16px; background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  overflow-x: auto; white-space: pre-wrap; overflow-wrap: anywhere; }
.two { display: grid; grid-template-columns: 1fr 1fr; gap: 14px; align-items: start; }
.two .panel + .panel { margin-top: 0; }
.legend { display: flex; flex-wrap: wrap; gap: 4px 18px; margin: 6px 0 4px; font-size: 13px; color: var(--soft); }
.legend i { display: inline-block; width: 14px; height: 4px; border-radius: 2px; margin-right: 7px; vertical-align: middle; }
.legend i.box { height: 11px; border-radius: 3px; }
.legend em { font-style: normal; display: inline-block; width: 17px; height: 17px; line-height: 17px; border-radius: 9px;
  text-align: center; background: var(--mark); color: var(--card); font-size: 11px; font-weight: 700; margin-right: 6px; }
svg { display: block; width: 100%; height: auto; }
svg.narrow { display: none; }
svg text { font: 11px system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; fill: var(--soft); }
svg .none { font-size: 14px; fill: var(--faint); }
svg .grid { stroke: var(--rule); stroke-width: 1; }
svg .limit { stroke: var(--faint); stroke-width: 1; stroke-dasharray: 4 4; }
svg .shade { fill: var(--shade); }
svg .shadelabel { fill: var(--warn); font-weight: 600; }
svg .line { fill: none; stroke-width: 2; stroke-linejoin: round; stroke-linecap: round; }
svg .area { opacity: .88; }
svg .mark { stroke: var(--mark); stroke-width: 1.5; stroke-dasharray: 3 3; }
svg .markdot { fill: var(--mark); }
svg .marknumber { fill: var(--card); font-weight: 700; }
footer { margin-top: 40px; color: var(--faint); font-size: 13px; }
@media (max-width: 760px) {
  main { padding: 16px 12px 40px; }
  header { padding: 20px; }
  header h1 { font-size: 28px; }
  .cards { grid-template-columns: repeat(2, 1fr); }
  .two { grid-template-columns: 1fr; }
  .panel { padding: 12px; }
  td, th { padding-left: 5px; padding-right: 5px; font-size: 13.5px; }
  .speed th:nth-child(7), .speed td:nth-child(7), .audit th:nth-child(4), .audit td:nth-child(4) { display: none; }
  td.id { font-size: 12px; }
  svg.wide { display: none; }
  svg.narrow { display: block; }
}
@media print { body { background: #fff; } .panel, .card, header { break-inside: avoid; } }
"""
"""Inlined into the report's head."""
