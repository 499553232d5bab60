import { render } from "preact";
import { App } from "./app.tsx";
import "./style/base.css";
import "./style/frame.css";
import "./style/calls.css";
import "./style/call.css";
import "./style/screens.css";

const root = document.getElementById("app");
if (root) render(<App />, root);
