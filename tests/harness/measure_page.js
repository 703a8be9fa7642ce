/* What a reader of the report would stumble over, found in the laid-out page: evaluated with the limits of
   test_report_in_browser.py, it returns the problems by kind, each with the beginning of what is wrong. */
({readable_px, contrast}) => {
  const page = document.documentElement, problems = {wide: [], small: [], pale: [], hidden: [], bare: [], dead: []};
  const rgb = color => color.match(/[\d.]+/g).slice(0, 3).map(Number);
  const light = color => rgb(color).map(c => (c /= 255) <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4)
    .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
  const paper = light(getComputedStyle(document.body).backgroundColor);
  document.querySelectorAll('details').forEach(one => one.open = true);
  const ids = [...document.querySelectorAll('[id]')].filter(one => !one.closest('svg')).map(one => one.id);
  for (const one of document.querySelectorAll('main *')) {
    if (one.closest('.scroll, .drawing, pre')) continue;
    if (one.getBoundingClientRect().right > page.clientWidth + 1) problems.wide.push(one.outerHTML.slice(0, 80));
  }
  const texts = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (texts.nextNode()) {
    const text = texts.currentNode, parent = text.parentElement, drawing = parent.closest('svg'), style = getComputedStyle(parent);
    if (!text.textContent.trim() || parent.tagName.toLowerCase() === 'title') continue;
    const scale = drawing ? drawing.getBoundingClientRect().width / drawing.viewBox.baseVal.width : 1;
    const shown = text.textContent.trim().slice(0, 40);
    if (parseFloat(style.fontSize) * scale < readable_px - 0.05) problems.small.push(shown);
    const own = light(drawing ? style.fill : style.color);
    if ((Math.max(own, paper) + 0.05) / (Math.min(own, paper) + 0.05) < contrast) problems.pale.push(shown);
  }
  for (const figure of document.querySelectorAll('figure')) {
    const box = figure.querySelector('svg').getBoundingClientRect();
    if (box.width < 300 || box.height < 100) problems.hidden.push(figure.id);
    const drawing = figure.querySelector('.drawing').getBoundingClientRect();
    if (drawing.right > page.clientWidth) problems.wide.push(figure.id);
  }
  for (const table of document.querySelectorAll('table')) {
    const box = table.closest('.scroll');
    if (!box || getComputedStyle(box).overflowX !== 'auto') problems.bare.push(table.outerHTML.slice(0, 80));
  }
  for (const link of document.querySelectorAll('a'))
    if (!document.getElementById(link.getAttribute('href').slice(1))) problems.dead.push(link.getAttribute('href'));
  return {problems, scroll: page.scrollWidth, width: page.clientWidth, height: page.scrollHeight,
    figures: document.querySelectorAll('figure').length, repeated: ids.filter((id, at) => ids.indexOf(id) !== at)};
}
