/** last is the number of the newest record of a list that counts from 1 without gaps, 0 when it is empty; any says whether
 * there is one behind a number. It asks about twice as often as the number has binary digits. */
export async function last(any: (after: number) => Promise<boolean>): Promise<number> {
  if (!(await any(0))) return 0;
  let low = 0; // there is a record behind it
  let high = 1;
  while (await any(high)) {
    low = high;
    high *= 2;
  }
  while (high - low > 1) {
    const middle = Math.floor((low + high) / 2);
    if (await any(middle)) low = middle;
    else high = middle;
  }
  return high;
}
