import { render } from "preact";
import "./styles/base.css";
import "./styles/parts.css";
import "./styles/shell.css";
import { App } from "./app";
import { followAddress } from "./core/router";
import { keepSession, look } from "./core/session";
import { dress } from "./core/theme";
import { listenForPalette } from "./ui/palette";

dress();
followAddress();
listenForPalette();
keepSession();
void look();
render(<App />, document.getElementById("app")!);
