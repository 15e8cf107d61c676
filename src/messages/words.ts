/** What Groundwork itself says to people: in the footer of a mail, on the page of a link. */
export interface Words {
  /** BCP 47. */
  locale: string;
  unsubscribe: string;
  question: (what: string) => string;
  button: (what: string) => string;
  all: string;
  done: string;
  turnedOff: (what: string) => string;
  everything: string;
  settings: string;
  notValid: string;
  notValidText: string;
  failed: string;
  failedText: string;
  again: string;
}

const en: Words = {
  locale: 'en',
  unsubscribe: 'Unsubscribe',
  question: (what) => `Do you want to turn off ${what}?`,
  button: (what) => `Turn off ${what}`,
  all: 'Turn off all messages',
  done: 'Done',
  turnedOff: (what) => `We have turned off ${what}.`,
  everything: 'all messages that can be turned off',
  settings: 'You can change this at any time in your settings.',
  notValid: 'This link is not valid',
  notValidText: 'It may be incomplete. Open it again from the message, or use your settings.',
  failed: 'That did not work',
  failedText: 'Nothing was changed. Please try again in a few minutes.',
  again: 'Try again',
};

const de: Words = {
  locale: 'de',
  unsubscribe: 'Abbestellen',
  question: (what) => `Möchtest du ${what} abbestellen?`,
  button: (what) => `Abbestellen: ${what}`,
  all: 'Alle Nachrichten abbestellen',
  done: 'Erledigt',
  turnedOff: (what) => `Abbestellt: ${what}.`,
  everything: 'alle Nachrichten, die sich abbestellen lassen',
  settings: 'Du kannst das jederzeit in deinen Einstellungen ändern.',
  notValid: 'Dieser Link ist nicht gültig',
  notValidText:
    'Vielleicht ist er unvollständig. Öffne ihn noch einmal aus der Nachricht, oder nutze deine Einstellungen.',
  failed: 'Das hat nicht geklappt',
  failedText: 'Es wurde nichts geändert. Bitte versuche es in ein paar Minuten noch einmal.',
  again: 'Noch einmal versuchen',
};

const es: Words = {
  locale: 'es',
  unsubscribe: 'Cancelar la suscripción',
  question: (what) => `¿Quieres dejar de recibir ${what}?`,
  button: (what) => `Dejar de recibir ${what}`,
  all: 'Dejar de recibir todos los mensajes',
  done: 'Listo',
  turnedOff: (what) => `Ya no recibirás ${what}.`,
  everything: 'los mensajes que se pueden desactivar',
  settings: 'Puedes cambiarlo en cualquier momento en tus ajustes.',
  notValid: 'Este enlace no es válido',
  notValidText: 'Puede estar incompleto. Ábrelo de nuevo desde el mensaje o usa tus ajustes.',
  failed: 'No ha funcionado',
  failedText: 'No se ha cambiado nada. Inténtalo de nuevo en unos minutos.',
  again: 'Intentar de nuevo',
};

const fr: Words = {
  locale: 'fr',
  unsubscribe: 'Se désabonner',
  question: (what) => `Voulez-vous ne plus recevoir ${what} ?`,
  button: (what) => `Ne plus recevoir ${what}`,
  all: 'Ne plus recevoir aucun message',
  done: 'C’est fait',
  turnedOff: (what) => `Vous ne recevrez plus ${what}.`,
  everything: 'les messages que l’on peut désactiver',
  settings: 'Vous pouvez changer cela à tout moment dans vos réglages.',
  notValid: 'Ce lien n’est pas valide',
  notValidText:
    'Il est peut-être incomplet. Ouvrez-le à nouveau depuis le message, ou utilisez vos réglages.',
  failed: 'Cela n’a pas fonctionné',
  failedText: 'Rien n’a été changé. Veuillez réessayer dans quelques minutes.',
  again: 'Réessayer',
};

const languages: Record<string, Words> = { en, de, es, fr };

export const spokenLanguages = Object.keys(languages);

/** The words of a language; English for one that is not spoken here. */
export const wordsOf = (locale: string | null | undefined): Words =>
  languages[(locale ?? 'en').split('-', 1)[0] ?? 'en'] ?? en;

/** Scripts that are written from right to left, and languages that are written in them. */
const rightToLeft =
  /^(ar|ckb|dv|fa|he|ps|sd|ug|ur|yi)\b(?!-(Latn|Cyrl|Deva)\b)|-(Arab|Hebr|Thaa)\b/;

/** The attributes of an element whose text is in a language. */
export const languageAttributes = (locale: string | null | undefined): string => {
  // It comes from a column with a CHECK; nothing else may stand in an attribute.
  const tag = /^[A-Za-z0-9-]{2,20}$/.test(locale ?? '') ? (locale as string) : 'en';
  return `lang="${tag}"${rightToLeft.test(tag) ? ' dir="rtl"' : ''}`;
};
