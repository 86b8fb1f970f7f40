"""The demo's tables of common knowledge, from which its tasks and the retriever's fact book are made.

They hold data only. They must not know phrasings, graders or models.
"""

from __future__ import annotations

from typing import Final


def _pairs(text: str) -> tuple[tuple[str, str], ...]:
    pairs = [
        tuple(part.strip() for part in line.split(":")) for line in text.replace("\n", ";").split(";") if line.strip()
    ]
    return tuple((left, right) for left, right in pairs)


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


CAPITALS: Final = _pairs("""
Albania: Tirana; Algeria: Algiers; Angola: Luanda; Armenia: Yerevan; Australia: Canberra; Azerbaijan: Baku; Bangladesh: Dhaka
Belarus: Minsk; Bhutan: Thimphu; Botswana: Gaborone; Bulgaria: Sofia; Burkina Faso: Ouagadougou; Cambodia: Phnom Penh
Canada: Ottawa; Chad: N'Djamena; Chile: Santiago; Colombia: Bogota; Croatia: Zagreb; Cuba: Havana; Cyprus: Nicosia; Denmark: Copenhagen
Ecuador: Quito; Estonia: Tallinn; Ethiopia: Addis Ababa; Fiji: Suva; Finland: Helsinki; Gabon: Libreville; Georgia: Tbilisi
Ghana: Accra; Honduras: Tegucigalpa; Hungary: Budapest; Iceland: Reykjavik; Indonesia: Jakarta; Ireland: Dublin; Jamaica: Kingston
Jordan: Amman; Kazakhstan: Astana; Kenya: Nairobi; Laos: Vientiane; Latvia: Riga; Lebanon: Beirut; Libya: Tripoli; Lithuania: Vilnius
Madagascar: Antananarivo; Malawi: Lilongwe; Mali: Bamako; Malta: Valletta; Moldova: Chisinau; Mongolia: Ulaanbaatar; Morocco: Rabat
Mozambique: Maputo; Namibia: Windhoek; Nepal: Kathmandu; New Zealand: Wellington; Nicaragua: Managua; Niger: Niamey; Norway: Oslo
Oman: Muscat; Paraguay: Asuncion; Peru: Lima; Philippines: Manila; Poland: Warsaw; Qatar: Doha; Romania: Bucharest; Rwanda: Kigali
Senegal: Dakar; Serbia: Belgrade; Slovakia: Bratislava; Slovenia: Ljubljana; Somalia: Mogadishu; Sudan: Khartoum; Suriname: Paramaribo
Sweden: Stockholm; Tajikistan: Dushanbe; Thailand: Bangkok; Togo: Lome; Tunisia: Tunis; Turkey: Ankara; Uganda: Kampala; Ukraine: Kyiv
Uruguay: Montevideo; Uzbekistan: Tashkent; Venezuela: Caracas; Vietnam: Hanoi; Zambia: Lusaka; Zimbabwe: Harare
""")

ELEMENT_SYMBOLS: Final = _pairs("""
hydrogen: H; helium: He; lithium: Li; beryllium: Be; boron: B; carbon: C; nitrogen: N; oxygen: O; fluorine: F; neon: Ne; sodium: Na
magnesium: Mg; aluminium: Al; silicon: Si; phosphorus: P; sulfur: S; chlorine: Cl; argon: Ar; potassium: K; calcium: Ca; scandium: Sc
titanium: Ti; vanadium: V; chromium: Cr; manganese: Mn; iron: Fe; cobalt: Co; nickel: Ni; copper: Cu; zinc: Zn; gallium: Ga
germanium: Ge; arsenic: As; selenium: Se; bromine: Br; krypton: Kr; rubidium: Rb; strontium: Sr; yttrium: Y; zirconium: Zr
niobium: Nb; molybdenum: Mo; technetium: Tc; ruthenium: Ru; rhodium: Rh; palladium: Pd; silver: Ag; cadmium: Cd; indium: In; tin: Sn
""")

AUTHORS: Final = _pairs("""
Moby-Dick: Herman Melville; Pride and Prejudice: Jane Austen; War and Peace: Leo Tolstoy; The Trial: Franz Kafka; Dracula: Bram Stoker
Frankenstein: Mary Shelley; Don Quixote: Miguel de Cervantes; The Odyssey: Homer; The Divine Comedy: Dante Alighieri
Crime and Punishment: Fyodor Dostoevsky; Jane Eyre: Charlotte Bronte; Wuthering Heights: Emily Bronte; Great Expectations: Charles Dickens
Treasure Island: Robert Louis Stevenson; The Time Machine: H. G. Wells; The Jungle Book: Rudyard Kipling; Les Miserables: Victor Hugo
Madame Bovary: Gustave Flaubert; Gulliver's Travels: Jonathan Swift; Robinson Crusoe: Daniel Defoe; Walden: Henry David Thoreau
The Scarlet Letter: Nathaniel Hawthorne; Little Women: Louisa May Alcott; Anna Karenina: Leo Tolstoy; Middlemarch: George Eliot
The Metamorphosis: Franz Kafka; Faust: Johann Wolfgang von Goethe; The Aeneid: Virgil; Candide: Voltaire; Heart of Darkness: Joseph Conrad
Ulysses: James Joyce; The Raven: Edgar Allan Poe; A Doll's House: Henrik Ibsen; The Cherry Orchard: Anton Chekhov
The Picture of Dorian Gray: Oscar Wilde; Around the World in Eighty Days: Jules Verne; The Three Musketeers: Alexandre Dumas
Black Beauty: Anna Sewell; Heidi: Johanna Spyri; Pinocchio: Carlo Collodi
""")

CURRENCIES: Final = _pairs("""
Japan: yen; India: rupee; China: yuan; Russia: ruble; Poland: zloty; Sweden: krona; Denmark: krone; Switzerland: franc; Brazil: real
Mexico: peso; Thailand: baht; Vietnam: dong; Israel: shekel; Nigeria: naira; South Africa: rand; South Korea: won; Hungary: forint
Malaysia: ringgit; Indonesia: rupiah; Ghana: cedi; Kenya: shilling; Peru: sol; Ukraine: hryvnia; Georgia: lari; Armenia: dram
Bangladesh: taka; Mongolia: tugrik; Kazakhstan: tenge; Zambia: kwacha; Angola: kwanza; Albania: lek; Romania: leu; Ethiopia: birr
Morocco: dirham; Honduras: lempira; Guatemala: quetzal; Paraguay: guarani; Laos: kip; Botswana: pula; Macedonia: denar
""")

ANTONYMS: Final = _pairs("""
hot: cold; big: small; fast: slow; young: old; happy: sad; light: dark; early: late; rich: poor; full: empty; hard: soft; open: closed
strong: weak; loud: quiet; clean: dirty; wet: dry; high: low; long: short; thick: thin; wide: narrow; deep: shallow; sharp: blunt
brave: cowardly; cheap: expensive; easy: difficult; near: far; true: false; right: wrong; good: bad; up: down; inside: outside
before: after; above: below; win: lose; buy: sell; push: pull; give: take; arrive: depart; begin: end; love: hate; laugh: cry
remember: forget; accept: reject; increase: decrease; success: failure; friend: enemy; peace: war; day: night; birth: death
victory: defeat; ancient: modern; guilty: innocent; polite: rude; safe: dangerous; smooth: rough; heavy: light; tall: short
sweet: sour; alive: dead; public: private; maximum: minimum
""")

SPANISH: Final = _pairs("""
dog: perro; cat: gato; house: casa; water: agua; bread: pan; milk: leche; book: libro; table: mesa; red: rojo; green: verde; black: negro
white: blanco; one: uno; two: dos; three: tres; ten: diez; sun: sol; moon: luna; mother: madre; father: padre; friend: amigo; day: dia
night: noche; hand: mano; eye: ojo; door: puerta; street: calle; fish: pescado; cheese: queso; apple: manzana; school: escuela
Monday: lunes; winter: invierno; summer: verano; king: rey; tree: arbol; flower: flor; heart: corazon; city: ciudad; world: mundo
""")

FRENCH: Final = _pairs("""
dog: chien; cat: chat; house: maison; water: eau; bread: pain; milk: lait; book: livre; table: table; red: rouge; green: vert; black: noir
white: blanc; one: un; two: deux; three: trois; ten: dix; sun: soleil; moon: lune; friend: ami; day: jour; night: nuit; hand: main
door: porte; street: rue; fish: poisson; cheese: fromage; apple: pomme; school: ecole; Monday: lundi; winter: hiver; summer: ete; king: roi
tree: arbre; flower: fleur; city: ville; world: monde; horse: cheval; bird: oiseau; sea: mer; church: eglise
""")

PAST_TENSES: Final = _pairs("""
go: went; eat: ate; see: saw; take: took; write: wrote; run: ran; sing: sang; swim: swam; drink: drank; drive: drove; speak: spoke
break: broke; choose: chose; fall: fell; fly: flew; forget: forgot; give: gave; grow: grew; know: knew; ride: rode; rise: rose
shake: shook; steal: stole; throw: threw; wear: wore; begin: began; bite: bit; blow: blew; catch: caught; teach: taught; bring: brought
buy: bought; think: thought; fight: fought; sleep: slept; keep: kept; feel: felt; leave: left; build: built; send: sent; find: found
hold: held; meet: met; pay: paid; sell: sold; tell: told; win: won; stand: stood; lose: lost; draw: drew
""")

CATEGORIES: Final = {
    "fruit": _words("apple banana pear grape cherry peach mango plum lemon orange"),
    "animal": _words("dog cat horse cow tiger rabbit monkey elephant sheep wolf"),
    "tool": _words("hammer screwdriver saw wrench drill pliers chisel axe shovel rake"),
    "colour": _words("red blue green yellow purple brown pink white black grey"),
    "vehicle": _words("car bus truck train bicycle tram scooter van taxi motorcycle"),
    "instrument": _words("piano guitar violin trumpet flute drum harp cello clarinet organ"),
    "clothing": _words("shirt trousers jacket coat skirt sock hat scarf glove dress"),
}

NAMES: Final = _words(
    "Maria Tom Anna Peter Lucy David Emma Oliver Grace Henry Nina Victor Clara Felix Julia Simon Laura Martin Alice Robert"
)
DAYS: Final = _words("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
PLACES: Final = _words("market library museum station harbour bakery theatre stadium hospital castle")
OBJECTS: Final = _words("umbrella bicycle lamp guitar camera blanket kettle notebook ladder suitcase")
WORDS: Final = _words("""
garden window planet summer bridge castle doctor engine forest guitar hammer island jacket kitchen letter market nature orange pencil
rabbit school ticket violin winter yellow animal basket candle dragon elephant feather giraffe harvest journey keyboard lantern mountain
notebook octopus pyramid quarter rainbow sandwich treasure umbrella volcano whisper balloon cabbage diamond factory gallery history
""")

PRAISE: Final = (
    "The food was delicious and the waiter was kind.", "I loved every minute of this film.", "Great value, and it arrived a day early.",
    "The room was spotless and the view was wonderful.", "Best headphones I have ever owned.", "The staff went out of their way to help us.",
    "A charming story with a brilliant ending.", "My children adore this game.", "It works perfectly and looks beautiful.",
    "Fantastic service, I will come back.", "The concert was amazing from start to finish.", "Very comfortable shoes, I wear them daily.",
    "The soup was warm and tasty.", "This app saves me an hour every day.", "An excellent book that I could not put down.",
    "The guide was funny and knew everything.", "Super fast delivery and friendly support.", "The cake was fresh and simply superb.",
    "I am delighted with this camera.", "A lovely hotel with a relaxing garden.", "The lesson was clear and enjoyable.",
    "What a pleasant surprise, highly recommended.", "The battery lasts for days, I am impressed.", "The actors were outstanding.",
    "Smooth ride and a polite driver.", "The coffee here is the best in town.",
)  # fmt: skip
COMPLAINTS: Final = (
    "The food was cold and the staff were rude.", "I walked out after ten boring minutes.", "It broke on the second day.",
    "The room was dirty and smelled of smoke.", "Worst headphones I have ever owned.", "Nobody answered my calls for a week.",
    "A dull story with a predictable ending.", "My children hated this game.", "It never worked and looks cheap.",
    "Terrible service, I will never come back.", "The concert was a waste of money.", "The shoes hurt my feet after an hour.",
    "The soup was salty and tasted awful.", "This app crashes every time I open it.", "A tedious book that I gave up on.",
    "The guide was late and knew nothing.", "Slow delivery and a damaged box.", "The cake was stale and dry.",
    "I regret buying this camera.", "A noisy hotel with a filthy pool.", "The lesson was confusing and far too long.",
    "What a disappointment, avoid it.", "The battery dies within an hour, useless.", "The actors were dreadful.",
    "A bumpy ride and an angry driver.", "The coffee here tastes like mud.",
)  # fmt: skip

TOPICS: Final = {
    "sports": (
        "The striker scored twice in the final.", "She won the marathon in record time.", "The coach praised the goalkeeper.",
        "The tennis match lasted five sets.", "The team lost the cup by one goal.", "He broke the swimming record on Friday.",
        "The cyclist fell in the last lap.", "The referee showed a red card.", "Their basketball team leads the league.",
        "The skier reached the podium again.",
    ),
    "weather": (
        "Heavy rain is expected in the north.", "A storm will reach the coast tonight.", "It will be sunny with a light breeze.",
        "Snow fell over the hills this morning.", "Thick fog covers the valley.", "Temperatures drop below zero tomorrow.",
        "Strong winds and hail hit the island.", "The heat wave ends on Sunday.", "Clouds will clear by noon.",
        "Thunder and lightning are forecast.",
    ),
    "business": (
        "The company raised its prices in May.", "Shares of the bank fell by four percent.", "The firm opened a new factory.",
        "Profits doubled in the third quarter.", "The merger was approved by shareholders.", "The airline cut two hundred jobs.",
        "Exports grew faster than imports.", "The start-up found a new investor.", "The retailer reported lower sales.",
        "The central bank kept interest rates unchanged.",
    ),
    "food": (
        "Simmer the tomatoes with garlic and basil.", "The chef served roast duck with plums.", "Whisk the eggs and add the flour.",
        "This bakery is known for its rye bread.", "Add a pinch of salt to the dough.", "The curry was made with coconut milk.",
        "Grill the fish for six minutes.", "The menu offers soup and fresh salad.", "Bake the pie until it is golden.",
        "Serve the pasta with grated cheese.",
    ),
}  # fmt: skip
