// Line icons of our own, on a grid of 24. They decorate: a word always stands beside them or in a label.

const shapes = {
  overview: "M4 13h6V4H4zm10 7h6V4h-6zM4 20h6v-4H4z",
  devices: "M9 18h6M12 3a6 6 0 0 0-3.5 10.9c.6.5 1 1.2 1 2v.1h5v-.1c0-.8.4-1.5 1-2A6 6 0 0 0 12 3zM10 21h4",
  messages: "M4 6h16v12H4zm0 1 8 6 8-6",
  topics: "M5 4v12a2 2 0 0 0 2 2h4M5 9h6M14 6h6v5h-6zm0 9h6v5h-6z",
  dead: "M4 12h5l1.5 3h3L15 12h5M4 12l2.5-7h11L20 12v7H4z",
  access: "M8 11V8a4 4 0 0 1 8 0v3M5 11h14v9H5zm7 4v2",
  settings: "M4 7h9m4 0h3M4 17h3m4 0h9M15 5v4M9 15v4",
  bridges: "M3 17c3-8 15-8 18 0M7 17v-4m10 4v-4m-5 4v-6M3 20h18",
  security: "M12 3l8 3v6c0 4.5-3.4 7.9-8 9-4.6-1.1-8-4.5-8-9V6z",
  files: "M6 3h8l4 4v14H6zM14 3v4h4",
  chat: "M4 5h16v11H10l-5 4v-4H4z",
  alarms: "M6 17V11a6 6 0 0 1 12 0v6l2 2H4zM10 21h4",
  rollouts: "M12 16V4m0 0L7 9m5-5 5 5M4 20h16",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zM20 20l-4.8-4.8",
  menu: "M4 7h16M4 12h16M4 17h16",
  close: "M6 6l12 12M18 6 6 18",
  copy: "M9 9h11v11H9zM5 15H4V4h11v1",
  check: "M5 12.5l4.5 4.5L19 7.5",
  cross: "M7 7l10 10M17 7 7 17",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zm0-14v5l3.5 2",
  warning: "M12 4l9 16H3zm0 6v4m0 2.5v.5",
  info: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zm0-10v5m0-8.5v.5",
  arrow: "M5 12h14m-5-5 5 5-5 5",
  up: "M12 19V5m-6 6 6-6 6 6",
  down: "M12 5v14m-6-6 6 6 6-6",
  plus: "M12 5v14M5 12h14",
  sun: "M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8zM12 2v2m0 16v2M2 12h2m16 0h2M5 5l1.4 1.4m11.2 11.2L19 19M5 19l1.4-1.4M17.6 6.4 19 5",
  moon: "M20 14.5A8.5 8.5 0 0 1 9.5 4 8.5 8.5 0 1 0 20 14.5z",
  auto: "M12 3a9 9 0 1 0 0 18zM12 3a9 9 0 0 1 0 18",
  out: "M14 4h6v16h-6M4 12h11m-4-4 4 4-4 4",
  dot: "M12 15a3 3 0 1 0 0-6 3 3 0 0 0 0 6z",
  ring: "M12 17a5 5 0 1 0 0-10 5 5 0 0 0 0 10z",
  pause: "M8 5v14M16 5v14",
  play: "M8 5l11 7-11 7z",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
  send: "M4 12 20 4l-5 16-3.5-6.5z",
} as const;

export type IconName = keyof typeof shapes;

export function Icon({ name }: { name: IconName }) {
  return (
    <svg
      class="icon"
      viewBox="0 0 24 24"
      fill="none"
      stroke="currentColor"
      stroke-width="1.8"
      stroke-linecap="round"
      stroke-linejoin="round"
      aria-hidden="true"
    >
      <path d={shapes[name]} />
    </svg>
  );
}
